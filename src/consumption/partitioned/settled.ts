import type { OffsetRuns } from '../offsets/runs.ts';
import type { Freed } from './pieces.ts';

/** The outcome of an ack, NACK or RELEASE: what it took out of flight, or why it was rejected. */
export interface Settled extends Freed {
  readonly status: 'OK' | 'ALREADY_ACKED' | 'UNKNOWN_OFFSET' | 'LEASE_EXPIRED';
}

/** Offsets that a client names: everything up to one, or runs. */
export type Named = { readonly upTo: number } | { readonly runs: OffsetRuns };

export function refused(status: Settled['status']): Settled {
  return { status, records: 0, bytes: 0 };
}
