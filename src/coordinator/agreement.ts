import type { Member } from './member.ts';
import type { Roster } from './roster.ts';
import type { MemberRow } from './snapshot.ts';

type Options = Omit<MemberRow, 'joinSeq'>;

/** The room for members in an assignment task, and what a member needs of it. */
export interface TaskRoom {
  readonly bytesMax: number;
  readonly bytesOf: (row: Options) => number;
}

/**
 * What the members of a group have in common when they assign by themselves, and what they tell
 * their leader. Both are counted from join to join, because a thousand members may join at once.
 */
export class Agreement {
  readonly #roster: Roster;
  readonly #task: TaskRoom;
  /** The number of members that have each rule. */
  readonly #having = new Map<string, number>();
  /** The number of members that have any. */
  #planners = 0;
  /** What all members tell their leader; null: nobody has asked yet. */
  #bytes: number | null = null;
  /** What each row counts in the sum; null: nobody has asked yet. Few groups have a leader. */
  #bytesOf: WeakMap<Options, number> | null = null;

  constructor(roster: Roster, task: TaskRoom) {
    this.#roster = roster;
    this.#task = task;
  }

  /** A member came, left, or has another row. */
  changed(before: MemberRow | null, after: MemberRow | null): void {
    if (before !== null) this.#count(before, -1);
    if (after !== null) this.#count(after, 1);
  }

  /** The leader's best rule that all members have; null: the broker assigns. */
  get rule(): string | null {
    // In nearly every group the broker assigns, and nobody need be asked for the leader.
    if (this.#planners === 0) return null;
    const { first, size } = this.#roster;
    return first?.row.clientAssignors.find((rule) => this.#having.get(rule) === size) ?? null;
  }

  /**
   * Whether a member with these rules could assign together with the others, and not with the one
   * that it replaces. All members assign by rules of their own, or none does: a member that only
   * streams cannot be asked for a plan.
   */
  includes(rules: readonly string[], replaced: Member | undefined): boolean {
    const others = this.#roster.size - (replaced === undefined ? 0 : 1);
    if (others === 0) return true;
    const before = replaced?.row.clientAssignors ?? [];
    if (rules.length === 0) return this.#planners === (before.length === 0 ? 0 : 1);
    return rules.some((rule) => (this.#having.get(rule) ?? 0) - (before.includes(rule) ? 1 : 0) === others);
  }

  /** What all members would tell their leader, with this one in the place of another. */
  bytesWith(joining: Options, replaced: Member | undefined): number {
    this.#bytes ??= Array.from(this.#roster).reduce((sum, { row }) => sum + this.#taskBytes(row), 0);
    return this.#bytes + this.#task.bytesOf(joining) - (replaced === undefined ? 0 : this.#taskBytes(replaced.row));
  }

  get bytesMax(): number {
    return this.#task.bytesMax;
  }

  #count(row: MemberRow, by: 1 | -1): void {
    if (this.#bytes !== null) this.#bytes += by * this.#taskBytes(row);
    if (row.clientAssignors.length === 0) return;
    this.#planners += by;
    for (const rule of new Set(row.clientAssignors)) {
      const members = (this.#having.get(rule) ?? 0) + by;
      if (members === 0) this.#having.delete(rule);
      else this.#having.set(rule, members);
    }
  }

  #taskBytes(row: Options): number {
    this.#bytesOf ??= new WeakMap();
    const bytes = this.#bytesOf.get(row) ?? this.#task.bytesOf(row);
    this.#bytesOf.set(row, bytes);
    return bytes;
  }
}
