declare const load: () => typeof import('@grpc/grpc-js')
export = load
