import type { MemberId, RebalanceCause, RebalanceReason, RebalanceRow } from './snapshot.ts';

/** Causes are gathered by reason, each with the first member that it concerns. */
type Causes = Map<RebalanceReason, { memberId: MemberId | null; count: number }>;

/** A rebalance while it runs: its causes, its start, and the partitions that it moved. */
export class Rebalance {
  #causes: Causes = new Map();
  #calledMs = 0;
  #running: { readonly generation: number; readonly causes: Causes; readonly calledMs: number } | null = null;
  #assigned = 0;
  #revoked = 0;

  /** A rebalance was called for and has not begun. */
  get isCalledFor(): boolean {
    return this.#causes.size > 0;
  }

  get isRunning(): boolean {
    return this.#running !== null;
  }

  /** Calls for a rebalance. */
  call(reason: RebalanceReason, memberId: MemberId | null, nowMs: number): void {
    if (this.#causes.size === 0) this.#calledMs = nowMs;
    const known = this.#causes.get(reason);
    if (known === undefined) this.#causes.set(reason, { memberId, count: 1 });
    else known.count++;
  }

  /** Drops the causes of this reason, because their inputs are refused. */
  withdraw(reason: RebalanceReason): void {
    this.#causes.delete(reason);
  }

  /** The causes have turned out to change nothing. */
  dismiss(): void {
    this.#causes = new Map();
  }

  /** A generation begins. @returns the rebalance that it interrupts. */
  begin(generation: number, nowMs: number, memberCount: number): RebalanceRow | null {
    const before = this.#end(nowMs, memberCount, false);
    this.#running = { generation, causes: this.#causes, calledMs: this.#calledMs };
    this.#causes = new Map();
    this.#assigned = this.#revoked = 0;
    return before;
  }

  moved(assigned: number, revoked: number): void {
    this.#assigned += assigned;
    this.#revoked += revoked;
  }

  /** Every partition has arrived. @returns the rebalance that is over; null: none was running. */
  complete(nowMs: number, memberCount: number): RebalanceRow | null {
    return this.#end(nowMs, memberCount, true);
  }

  #end(nowMs: number, memberCount: number, completed: boolean): RebalanceRow | null {
    if (this.#running === null) return null;
    const { generation, causes, calledMs } = this.#running;
    this.#running = null;
    return {
      generation,
      causes: Array.from(causes, ([reason, { memberId, count }]): RebalanceCause => ({ reason, memberId, count })),
      durationMs: nowMs - calledMs,
      memberCount,
      assignedCount: this.#assigned,
      revokedCount: this.#revoked,
      completed,
    };
  }
}
