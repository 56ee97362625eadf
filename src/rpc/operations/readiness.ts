import { printable } from '../../errors/printable.ts';

/** What /readyz says of this process. */
export interface Readiness {
  /** It serves calls, and takes what they write. */
  readonly ok: boolean;
  /** `standby`: it could take over at once. A standby that has lost the database is `starting`. */
  readonly role: 'active' | 'standby' | 'starting' | 'stopping';
  /** Why it is not ok, one line each. */
  readonly reasons: readonly string[];
}

/**
 * The status and the text of /readyz. `?role=any` also takes a standby for ready, because a rollout
 * that replaces brokers one by one waits for each of them, and only one can be active.
 */
export function readyzAnswer(url: string, { ok, role, reasons }: Readiness): [status: number, text: string] {
  const wanted = new URLSearchParams(url.split('?')[1]).get('role');
  if (wanted !== null && wanted !== 'any')
    return [400, `there is no role ${printable(wanted)}: it is any, or left out`];
  if (ok) return [200, 'ready'];
  if (wanted === 'any' && role === 'standby') return [200, 'standby'];
  return [503, reasons.map(printable).join('\n')];
}
