/** Types only: what a module of functions looks like from far away. */

// biome-ignore lint/suspicious/noExplicitAny: stands for any function; its real types come from the user's module
type AnyFunction = (...args: any[]) => unknown

/** The module type of a pool that was given none: any name, any arguments, results of unknown type. */
// biome-ignore lint/suspicious/noExplicitAny: an untyped pool says nothing about its results
export type AnyModule = Record<string, (...args: any[]) => any>

/** The names of a module's functions. */
export type FunctionName<M> = { [K in keyof M]: M[K] extends AnyFunction ? K : never }[keyof M] & string

/** A function with arguments bound in front and keyword arguments bound behind; made by `partial`. */
export interface Bound<N extends string = string, A extends readonly unknown[] = readonly unknown[]> {
  readonly name: N
  readonly args: A
  readonly kwargs: Readonly<Record<string, unknown>> | undefined
}

/** What names a function: its name, or a `partial` of it. */
export type FunctionRef<M> = FunctionName<M> | Bound<FunctionName<M>, readonly unknown[]>

export type NameOf<F> = F extends Bound<infer N> ? N : F extends string ? F : never

type Fn<M, F> = NameOf<F> extends keyof M ? (M[NameOf<F>] extends AnyFunction ? M[NameOf<F>] : never) : never

/** What the function resolves to. */
export type Result<M, F> = Awaited<ReturnType<Fn<M, F>>>

type Drop<P extends readonly unknown[], A extends readonly unknown[]> = A extends readonly [unknown, ...infer R]
  ? P extends readonly [unknown?, ...infer Q]
    ? Drop<Q, R>
    : []
  : P

/** The parameters that are left after those that `partial` bound. */
type Rest<M, F> = F extends Bound<string, infer A> ? Drop<Parameters<Fn<M, F>>, A> : Parameters<Fn<M, F>>

/** Positional arguments: all of them, or all but the last where `kwargs` stands in its place. */
export type Args<M, F> = Rest<M, F> | AllButLast<Rest<M, F>>
type AllButLast<P extends readonly unknown[]> = P extends readonly [...infer Q, unknown?] ? Q : P

/** One item of a map: the first parameter that is left. */
export type Item<M, F> = Rest<M, F> extends readonly [] ? unknown : Rest<M, F>[0]

/** One item of a starmap: the arguments that are left. */
export type StarItem<M, F> = Args<M, F>

/** Keyword arguments travel as one object and arrive as the function's last argument. */
export type Kwargs = Readonly<Record<string, unknown>>
