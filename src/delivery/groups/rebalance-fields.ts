import type { RebalanceCause, RebalanceRow } from '../../coordinator/group.ts';

/** The fields of the log line of a rebalance. */
export function rebalanceFields(group: string, rebalance: RebalanceRow): object {
  const { generation, causes, durationMs, memberCount, assignedCount, revokedCount, completed } = rebalance;
  return {
    group,
    generation,
    causes: causes.map(causeFields),
    durationMs: Math.round(durationMs),
    members: memberCount,
    assigned: assignedCount,
    revoked: revokedCount,
    completed,
  };
}

/** Leaves out a missing member and a count of one, so that most causes are short. */
function causeFields({ reason, memberId, count }: RebalanceCause): object {
  return { reason, ...(memberId !== null && { memberId }), ...(count > 1 && { count }) };
}
