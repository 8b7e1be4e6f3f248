import type { Bound, Kwargs } from './typed.js'

class BoundFunction<N extends string, A extends readonly unknown[]> implements Bound<N, A> {
  constructor(
    readonly name: N,
    readonly args: A,
    readonly kwargs: Kwargs | undefined,
  ) {}
}

/**
 * A function with arguments bound to it, as functools.partial: `args` stand before the call's own, `kwargs` are merged
 * under the call's own. In a map the bound values travel once per request, not once per item. A partial of a partial
 * binds further.
 */
export function partial<N extends string, const A extends readonly unknown[] = readonly []>(
  fn: N,
  args?: A,
  kwargs?: Kwargs,
): Bound<N, A>
export function partial<
  N extends string,
  B extends readonly unknown[],
  const A extends readonly unknown[] = readonly [],
>(fn: Bound<N, B>, args?: A, kwargs?: Kwargs): Bound<N, readonly [...B, ...A]>
export function partial(fn: string | Bound, args: readonly unknown[] = [], kwargs?: Kwargs): Bound {
  const bound = boundOf(fn)
  return new BoundFunction(bound.name, [...bound.args, ...args], mergeKwargs(bound.kwargs, kwargs))
}

/** A name as a Bound with nothing bound. */
export const boundOf = (fn: string | Bound): Bound =>
  typeof fn === 'string' ? new BoundFunction(fn, [], undefined) : fn

/** Later keys win; undefined where neither has any. */
export function mergeKwargs(first: Kwargs | undefined, second: Kwargs | undefined): Kwargs | undefined {
  return first && second ? { ...first, ...second } : (second ?? first)
}
