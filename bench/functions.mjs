export const length = (bytes) => bytes.length
