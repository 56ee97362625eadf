import type { Caller } from '../../broker/broker.ts';

/**
 * The seam through which the identity of every call passes, on both edges. Every caller is
 * anonymous today; authentication starts here.
 */
export function callerOf(host: string | undefined): Caller {
  return { principal: 'anonymous', host: host ?? 'unknown' };
}
