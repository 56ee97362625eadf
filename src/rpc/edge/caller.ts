import type { DescMethod } from '@bufbuild/protobuf';
import type { Caller } from '../../broker/caller.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { actionOf, type Action } from './actions.ts';

/**
 * The seam through which the identity of every call passes, on both edges. Every caller is
 * anonymous today; authentication starts here.
 */
export function callerOf(host: string | undefined): Caller {
  return { principal: 'anonymous', host: host ?? 'unknown' };
}

/** The rejection of a caller that may not do what an RPC does; null: the caller may. */
export type Authorize = (caller: Caller, action: Action, method: DescMethod) => Rejection | null;

/** Every caller may make every call yet. */
export const everybody: Authorize = () => null;

/** The one wrapper around every handler: it checks the caller before the request is read. */
export function checked<C extends { readonly caller: Caller }, A extends readonly unknown[], R>(
  method: DescMethod,
  authorize: Authorize,
  handle: (call: C, ...rest: A) => R,
): (call: C, ...rest: A) => R | Promise<never> {
  const action = actionOf(method);
  return (call, ...rest) => {
    const rejection = authorize(call.caller, action, method);
    return rejection === null ? handle(call, ...rest) : Promise.reject(rejection);
  };
}
