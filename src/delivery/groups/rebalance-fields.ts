import type { RebalanceCause, RebalanceRow } from '../../coordinator/group.ts';

/** A rebalance as the log has it, one line each. */
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

/** Without what says nothing: most causes come up once, and some are about no member. */
function causeFields({ reason, memberId, count }: RebalanceCause): object {
  return { reason, ...(memberId !== null && { memberId }), ...(count > 1 && { count }) };
}
