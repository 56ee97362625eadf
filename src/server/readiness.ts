import type { Readiness } from '../rpc/operations/readiness.ts';

/** What the database has refused to this broker since it last took a write. */
interface RefusedWrites {
  /** By the wall clock; null: there is space. */
  readonly diskFullSinceMs: number | null;
  readonly isReadOnly: boolean;
}

interface ServerState {
  readonly isStopping: boolean;
  /** The state is loaded, and the port of gRPC is open. */
  readonly isOpen: boolean;
  readonly mayDeliver: boolean;
  /** Another broker owns the database, and this one can take over from it. */
  readonly standsBy: boolean;
  /** What the start does at the moment. */
  readonly activity: string;
  /** What fails at the moment; null: nothing. */
  readonly failure: string | null;
  readonly refused: RefusedWrites;
}

/** Whether the process serves, and if not, every reason. */
export function readinessOf(state: ServerState): Readiness {
  const { isStopping, isOpen, standsBy, activity, failure } = state;
  if (isStopping) return { ok: false, role: 'stopping', reasons: ['stopping'] };
  if (!isOpen) {
    const reasons = [failure ?? activity];
    return { ok: false, role: standsBy && failure === null ? 'standby' : 'starting', reasons };
  }
  const reasons = reasonsOfActive(state);
  return { ok: reasons.length === 0, role: 'active', reasons };
}

function reasonsOfActive({ mayDeliver, failure, refused }: ServerState): string[] {
  const { diskFullSinceMs, isReadOnly } = refused;
  const reasons: string[] = [];
  if (!mayDeliver) reasons.push(`the database does not answer${failure === null ? '' : `; ${failure}`}`);
  if (diskFullSinceMs !== null)
    reasons.push(`disk full: publishes are refused since ${new Date(diskFullSinceMs).toISOString()}`);
  if (isReadOnly) reasons.push('database read-only: nothing can be written');
  return reasons;
}
