/** Types only: the types of arguments and results, from the type of the module whose functions the server runs. */

import type { AsyncResult } from './async-result.js'

// biome-ignore lint/suspicious/noExplicitAny: matches every function; the real types come from the user's module
type AnyFunction = (...args: any[]) => unknown

/** The module type of a Pool without a type argument: it accepts all names and arguments. */
// biome-ignore lint/suspicious/noExplicitAny: the results of an untyped Pool can be used as any type
export type AnyModule = Record<string, (...args: any[]) => any>

/** The functions among the exports of a module, or among the properties of its default export. */
type Own<E> = IsAny<E> extends true ? unknown : { [K in keyof E as E[K] extends AnyFunction ? K : never]: E[K] }
/** For equal names the first counts. */
type Merged<A, B> = A & Omit<B, keyof A>

/**
 * The functions of a module by name, as a worker finds them (worker/load-functions.ts): its own, those of its default export,
 * and those of the default export of an ES module that was compiled to CommonJS.
 */
type Exports<M> =
  IsAny<M> extends true
    ? AnyModule
    : M extends { default: infer D }
      ? Merged<Merged<Own<M>, Own<D>>, D extends { default: infer E } ? Own<E> : unknown>
      : Own<M>

/** A property, not an alias: the compiler prints the names themselves in its errors, not the name of an alias. */
interface Names<M> {
  readonly of: keyof Exports<M> & string
}

/** The names of a module's functions. */
export type FunctionName<M> = Names<M>['of']

/** A function with arguments bound to it; `partial` makes it. The bound arguments come before those of the call. */
export interface Bound<N extends string = string, A extends readonly unknown[] = readonly unknown[]> {
  readonly name: N
  readonly args: A
  readonly kwargs: Kwargs | undefined
}

/** The name of a function, or a `partial` of it. */
export type FunctionRef<M> = FunctionName<M> | Bound<FunctionName<M>>

type NameOf<F> = F extends Bound<infer N> ? N : F extends string ? F : never

type Fn<M, F> = NameOf<F> extends keyof Exports<M> ? Exports<M>[NameOf<F>] : never

/** A member for each overload: its parameters and its result. More than four overloads: the last four. */
type Signature<F> = F extends {
  (...args: infer A): infer R
  (...args: infer B): infer S
  (...args: infer C): infer T
  (...args: infer D): infer U
}
  ? [A, R] | [B, S] | [C, T] | [D, U]
  : F extends { (...args: infer A): infer R; (...args: infer B): infer S; (...args: infer C): infer T }
    ? [A, R] | [B, S] | [C, T]
    : F extends { (...args: infer A): infer R; (...args: infer B): infer S }
      ? [A, R] | [B, S]
      : F extends (...args: infer A) => infer R
        ? [A, R]
        : never

/** The type of the function's result, as it arrives. */
export type Result<M, F> = Arrived<Signature<Fn<M, F>>[1]>

type Arrived<R> = Wire<Awaited<R>>

type Drop<P, A extends readonly unknown[]> = A extends readonly [unknown, ...infer R]
  ? P extends readonly [unknown?, ...infer Q]
    ? Drop<Q, R>
    : []
  : P

/** The parameters that `partial` has not bound; a member for each overload. */
type Rest<M, F> = Signature<Fn<M, F>> extends infer S ? (S extends [infer P, unknown] ? DropBound<P, F> : never) : never
type DropBound<P, F> = F extends Bound<string, infer A> ? Drop<P, A> : P

type AllButLast<P> = P extends readonly [...infer Q, unknown?] ? Q : never
type Last<P> = P extends readonly unknown[] ? (Required<P> extends readonly [...unknown[], infer L] ? L : never) : never

/** The keyword arguments that a last parameter of this type takes: never, if it is no plain object. */
type KwargsOf<L> =
  IsAny<L> extends true
    ? Kwargs
    : L extends readonly unknown[] | AnyFunction | Scalar | Date | ReadonlyMap<unknown, unknown> | ReadonlySet<unknown>
      ? never
      : L extends ArrayBufferView | ArrayBuffer
        ? never
        : L extends object
          ? L
          : never

/**
 * What follows the function's name in apply: its arguments, keyword arguments if its last parameter is an object, and the
 * options of the call. `O`: the type of the options.
 */
export type CallArgs<M, F, O> = Parts<Rest<M, F>, F, O>
type Parts<P, F, O> = P extends readonly unknown[]
  ? IsOpen<P> extends true
    ? [args?: Readonly<P>, kwargs?: Kwargs, options?: O]
    : F extends Bound
      ? // A partial may have bound the keyword arguments, too.
        [args?: Readonly<P> | Readonly<AllButLast<P>>, kwargs?: KwargsOf<Last<P>> | Kwargs, options?: O]
      : [KwargsOf<Last<P>>] extends [never]
        ? Positional<P, undefined, O>
        : [AllButLast<P>] extends [P]
          ? Positional<P, KwargsOf<Last<P>>, O>
          : Positional<P, undefined, O> | Keyword<AllButLast<P>, KwargsOf<Last<P>>, O>
  : never
type Positional<P extends readonly unknown[], K, O> = [] extends P
  ? [args?: Readonly<P>, kwargs?: K | undefined, options?: O]
  : [args: Readonly<P>, kwargs?: K | undefined, options?: O]
/** The last parameter is required and an object: it is either among the arguments, or the keyword arguments. */
type Keyword<P extends readonly unknown[], K, O> = [] extends P
  ? [args: Readonly<P> | undefined, kwargs: K, options?: O]
  : [args: Readonly<P>, kwargs: K, options?: O]

/** One item of a map: the only argument that is not bound. */
export type Item<M, F> = [OneArg<Rest<M, F>>] extends [never]
  ? `${NameOf<F>} needs more than one argument: use starmap, or partial`
  : OneArg<Rest<M, F>>
type OneArg<P> = P extends readonly []
  ? unknown
  : P extends readonly [unknown?, ...infer R]
    ? [] extends R
      ? P[0]
      : never
    : P extends readonly (infer E)[]
      ? E
      : never

/** One item of a starmap: the arguments that are not bound. */
export type StarItem<M, F> =
  Rest<M, F> extends infer P
    ? P extends readonly unknown[]
      ? Readonly<P> | (F extends Bound ? Readonly<AllButLast<P>> : never)
      : never
    : never

/** Keyword arguments. They are sent as one object, which the function receives as its last argument. */
export type Kwargs = Readonly<Record<string, unknown>>

/** The functions of a module as `pool.fn` calls them: the same parameters, and an AsyncResult of the result. */
export type Functions<M> =
  string extends FunctionName<M>
    ? // biome-ignore lint/suspicious/noExplicitAny: an untyped Pool has every function
      any
    : { readonly [N in FunctionName<M>]: Handle<Signature<Fn<M, N>>> }
/** One function type for each overload. */
type Handle<S> = (
  S extends [infer P extends unknown[], infer R]
    ? (handle: (...args: P) => AsyncResult<Arrived<R>>) => void
    : never
) extends (handle: infer H) => void
  ? H
  : never

type IsAny<T> = 0 extends 1 & T ? true : false
/** Any number of arguments of any type, as in an untyped Pool. */
type IsOpen<P extends readonly unknown[]> = [] extends P
  ? number extends P['length']
    ? IsAny<P[number]>
    : false
  : false
type Scalar = string | number | bigint | boolean | symbol | null | undefined

/** A value of this kind cannot be sent: the call fails with EncodingError. */
export interface Unsendable<Kind extends string> {
  readonly 'cannot be sent': Kind
}

/**
 * A value of type `T` as it arrives on the other side (docs/reference/values.md): bytes as a Uint8Array, an object with
 * its own properties and without methods, an array without its subclass.
 */
export type Wire<T> =
  IsAny<T> extends true
    ? T
    : unknown extends T
      ? T
      : // biome-ignore lint/suspicious/noConfusingVoidType: the result of a function without one
        T extends string | number | bigint | boolean | null | undefined | void
        ? T
        : T extends symbol
          ? Unsendable<'a symbol'>
          : T extends AnyFunction
            ? Unsendable<'a function'>
            : T extends Date | Uint8ClampedArray | OtherArray
              ? T
              : T extends Uint8Array | ArrayBuffer | SharedArrayBuffer
                ? Uint8Array
                : T extends ReadonlyMap<infer K, infer V>
                  ? Map<Wire<K>, Wire<V>>
                  : T extends ReadonlySet<infer V>
                    ? Set<Wire<V>>
                    : T extends readonly unknown[]
                      ? WireArray<T>
                      : T extends object
                        ? WireObject<T>
                        : T
type OtherArray =
  | Int8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array
type WireArray<T extends readonly unknown[]> = number extends T['length']
  ? Wire<T[number]>[]
  : { -readonly [K in keyof T]: Wire<T[K]> }
type WireObject<T extends object> =
  T extends PromiseLike<unknown>
    ? Unsendable<'a promise'>
    : T extends Iterator<unknown, unknown, never> | AsyncIterator<unknown, unknown, never>
      ? Unsendable<'an iterator'>
      : T extends RegExp | DataView | WeakMap<never, unknown> | WeakSet<never>
        ? Unsendable<'an object of this class'>
        : { [K in keyof T as K extends symbol ? never : T[K] extends AnyFunction ? never : K]: Wire<T[K]> }
