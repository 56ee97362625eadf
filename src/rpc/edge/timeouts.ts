import { present } from '../../errors/present.ts';

/** The headers in which a client says how long it waits. */
export const timeoutHeaders = ['grpc-timeout', 'connect-timeout-ms'] as const;

const grpcTimeout = /^(\d{1,8})([HMSmun])$/;
const connectTimeout = /^\d{1,10}$/;
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 0.001, n: 0.000_001 };
/** A longer delay than Node's timers know would end at once. */
const timeoutMsMax = 2_147_483_647;

/** @returns the value, or the longest timeout that a timer can have; null for a malformed value. */
export function boundedTimeout(name: (typeof timeoutHeaders)[number], value: string): string | null {
  if (name === 'connect-timeout-ms') {
    if (!connectTimeout.test(value)) return null;
    return String(Math.min(Number(value), timeoutMsMax));
  }
  const match = grpcTimeout.exec(value);
  if (match === null) return null;
  const [, digits, unit = ''] = match;
  const ms = Number(digits) * present(unitMs[unit], 'the pattern of a timeout names only units');
  return ms > timeoutMsMax ? `${Math.floor(timeoutMsMax / 3_600_000)}H` : value;
}
