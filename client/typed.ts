/** Types only: the types of arguments and results, from the type of the module whose functions the server runs. */

// biome-ignore lint/suspicious/noExplicitAny: matches every function; the real types come from the user's module
type AnyFunction = (...args: any[]) => unknown

/** The module type of a Pool without a type argument: it accepts all names and arguments. */
// biome-ignore lint/suspicious/noExplicitAny: the results of an untyped Pool can be used as any type
export type AnyModule = Record<string, (...args: any[]) => any>

/** The names of a module's functions. */
export type FunctionName<M> = { [K in keyof M]: M[K] extends AnyFunction ? K : never }[keyof M] & string

/** A function with arguments bound to it; `partial` makes it. The bound arguments come before those of the call. */
export interface Bound<N extends string = string, A extends readonly unknown[] = readonly unknown[]> {
  readonly name: N
  readonly args: A
  readonly kwargs: Readonly<Record<string, unknown>> | undefined
}

/** The name of a function, or a `partial` of it. */
export type FunctionRef<M> = FunctionName<M> | Bound<FunctionName<M>, readonly unknown[]>

export type NameOf<F> = F extends Bound<infer N> ? N : F extends string ? F : never

type Fn<M, F> = NameOf<F> extends keyof M ? (M[NameOf<F>] extends AnyFunction ? M[NameOf<F>] : never) : never

/** The type of the function's result. */
export type Result<M, F> = Awaited<ReturnType<Fn<M, F>>>

type Drop<P extends readonly unknown[], A extends readonly unknown[]> = A extends readonly [unknown, ...infer R]
  ? P extends readonly [unknown?, ...infer Q]
    ? Drop<Q, R>
    : []
  : P

/** The parameters that `partial` has not bound. */
type Rest<M, F> = F extends Bound<string, infer A> ? Drop<Parameters<Fn<M, F>>, A> : Parameters<Fn<M, F>>

/** Positional arguments: all of them, or all but the last if `kwargs` takes its place. */
export type Args<M, F> = Rest<M, F> | AllButLast<Rest<M, F>>
type AllButLast<P extends readonly unknown[]> = P extends readonly [...infer Q, unknown?] ? Q : P

/** One item of a map: the first parameter that is not bound. */
export type Item<M, F> = Rest<M, F> extends readonly [] ? unknown : Rest<M, F>[0]

/** One item of a starmap: the arguments that are not bound. */
export type StarItem<M, F> = Args<M, F>

/** Keyword arguments. They are sent as one object, which the function receives as its last argument. */
export type Kwargs = Readonly<Record<string, unknown>>
