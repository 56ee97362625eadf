import {
  lifeOf,
  type GroupEnd,
  type OwedRecords,
  type SavedChange,
  type SubscriptionChange,
  type SubscriptionInput,
  type SubscriptionRow,
} from '../../../src/delivery/ports/store.ts';
import { createdLife, step, type LifeInput } from '../../../src/subscription/life.ts';

type StoredRow = Omit<SubscriptionRow, 'unattendedForMs'>;

/** A row of the audit. */
export interface AuditedEnd {
  readonly subscriptionId: number;
  readonly reason: GroupEnd | 'CANCELLED';
  readonly state: SubscriptionRow['state'];
  readonly owedRecords: number;
}

function lifeInputOf(input: SubscriptionInput, isAttended: () => boolean): LifeInput {
  if (input.type === 'UPDATE') return input;
  return input.type === 'RESUME' ? { type: 'RESUME', isAttended: isAttended() } : { type: input.type };
}

/** The rows of subscriptions. Each change of a life is a step of the machine. */
export class MemorySubscriptions {
  /** The database's clock. */
  nowMs: () => number = () => 0;
  /** Until when each owner before the present one lived, by epoch, in their order. */
  readonly endedEpochs = new Map<number, number>();
  /** The epoch of the last owner that has heard a member, by group. */
  readonly heardEpochs = new Map<number, number>();
  readonly audit: AuditedEnd[] = [];
  /** Called after claims on a topic have changed. */
  onClaimed: (topicId: number) => void = () => undefined;
  readonly #rows = new Map<number, StoredRow>();
  #ever = 0;

  /** All subscriptions that are not gone, with those that are cancelled. */
  all(): SubscriptionRow[] {
    return Array.from(this.#rows.values(), (row) => this.#shown(row));
  }

  /** Those that are not cancelled. */
  live(): SubscriptionRow[] {
    return this.all().filter(({ state }) => state !== 'CANCELLED');
  }

  find(id: number): SubscriptionRow | undefined {
    const row = this.#rows.get(id);
    return row && this.#shown(row);
  }

  create(groupId: number, topicId: number, deadAfterMs: number | null): SubscriptionRow {
    const { state, reason, changedAtMs } = createdLife(deadAfterMs, Math.floor(this.nowMs()));
    const row: StoredRow = {
      id: ++this.#ever,
      groupId,
      topicId,
      createdAtMs: changedAtMs,
      state,
      stateReason: reason,
      stateChangedAtMs: changedAtMs,
      deadAfterMs,
      unattendedSinceMs: null,
      claimSeq: 1,
    };
    this.#rows.set(row.id, row);
    this.onClaimed(topicId);
    return this.#shown(row);
  }

  /** Removes subscriptions with their group or topic. */
  remove(isGone: (row: SubscriptionRow) => boolean): void {
    for (const row of this.all()) if (isGone(row)) this.#rows.delete(row.id);
  }

  claimed(ids: readonly number[]): void {
    for (const id of ids) {
      const row = this.#rows.get(id);
      if (row === undefined) continue;
      this.#rows.set(id, { ...row, claimSeq: row.claimSeq + 1 });
      this.onClaimed(row.topicId);
    }
  }

  change(id: number, input: SubscriptionInput, isAttended: (groupId: number) => boolean): SubscriptionChange {
    const row = this.find(id);
    if (row === undefined) return { type: 'GONE' };
    const outcome = this.#step(
      row,
      lifeInputOf(input, () => isAttended(row.groupId)),
    );
    if (outcome === 'FORBIDDEN') return { type: 'FORBIDDEN', state: row.state };
    if (outcome === 'CHANGED' && input.type === 'CANCEL' && input.owedRecords > 0) {
      const { owedRecords } = input;
      this.audit.push({ subscriptionId: id, reason: 'CANCELLED', state: row.state, owedRecords });
    }
    return { type: 'STORED', row: this.find(id)! };
  }

  markDead(ids: readonly number[]): SubscriptionRow[] {
    for (const id of ids) {
      const row = this.find(id);
      if (row !== undefined) this.#step(row, { type: 'LOOK' });
    }
    return ids.flatMap((id) => this.find(id) ?? []);
  }

  /**
   * Follows a save of groups.
   * @param left the groups that have lost a member; `came`: those that got or kept one.
   * @returns the rows that have changed.
   */
  saved(
    changes: readonly SavedChange[],
    { left, came }: { readonly left: ReadonlySet<number>; readonly came: ReadonlySet<number> },
    isAttended: (groupId: number) => boolean,
  ): SubscriptionRow[] {
    const changed = new Set<number>();
    if (left.size === 0 && came.size === 0) return [];
    for (const row of this.live()) {
      const { groupId } = row;
      const there = isAttended(groupId);
      const inputs: LifeInput[] = [];
      if (came.has(groupId) || (there && left.has(groupId))) inputs.push({ type: 'ATTENDED' });
      if (!there && (left.has(groupId) || came.has(groupId))) {
        inputs.push({ type: 'LEFT', heardAtMs: this.#heardAtMs(changes, groupId) });
      }
      for (const input of inputs) if (this.#step(this.find(row.id)!, input) === 'CHANGED') changed.add(row.id);
    }
    return [...changed].flatMap((id) => this.find(id) ?? []);
  }

  /** The groups end, each with an audit row for each subscription. */
  ended(groupId: number, reason: GroupEnd, owed: readonly OwedRecords[]): void {
    for (const { id, state, groupId: of } of this.live()) {
      if (of !== groupId) continue;
      const owedRecords = owed.find(({ subscriptionId }) => subscriptionId === id)?.records ?? 0;
      this.audit.push({ subscriptionId: id, reason, state, owedRecords });
    }
    this.remove((row) => row.groupId === groupId);
  }

  #heardAtMs(changes: readonly SavedChange[], groupId: number): number {
    const agos = changes.flatMap((one) => (one.groupId === groupId ? (one.heardAgoMs() ?? []) : []));
    if (agos.length > 0) return Math.floor(this.nowMs() - Math.min(...agos));
    const ended = [...this.endedEpochs];
    const heardIn = this.heardEpochs.get(groupId) ?? Math.max(...this.endedEpochs.keys());
    return Math.floor(ended.find(([epoch]) => epoch >= heardIn)?.[1] ?? this.nowMs());
  }

  #step(row: SubscriptionRow, input: LifeInput): 'CHANGED' | 'SAME' | 'FORBIDDEN' {
    const outcome = step(lifeOf(row), input, Math.floor(this.nowMs()));
    if (outcome.type !== 'CHANGED') return outcome.type;
    const { state, reason: stateReason, changedAtMs: stateChangedAtMs, ...rest } = outcome.life;
    const claimSeq = row.claimSeq + (outcome.claim === 'CHANGED' ? 1 : 0);
    const { unattendedForMs: _, ...stored } = row;
    this.#rows.set(row.id, { ...stored, state, stateReason, stateChangedAtMs, ...rest, claimSeq });
    if (outcome.claim === 'CHANGED') this.onClaimed(row.topicId);
    return 'CHANGED';
  }

  #shown(row: StoredRow): SubscriptionRow {
    const { unattendedSinceMs: since } = row;
    return { ...row, unattendedForMs: since === null ? null : Math.max(0, this.nowMs() - since) };
  }
}
