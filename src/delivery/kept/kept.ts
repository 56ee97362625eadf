import type { Counted, Hold } from '../../account/hold.ts';
import type { Owner } from '../../account/owner.ts';
import { notOwner } from '../../errors/rejections/broker.ts';

const names = ['groups', 'members', 'cursors', 'deliveries', 'notes', 'holes', 'attempts'] as const;
type KeptKind = (typeof names)[number];

/** Bytes by kind. */
export type KeptBytes = Readonly<Partial<Record<KeptKind, number>>>;

/**
 * What the groups of an open broker keep, in the account of memory.
 *
 * A call reserves what it may add before it changes anything, and releases the reservation when it
 * has ended. In between the objects are made, and each counts itself by `force`. A load has nobody
 * to reject, so it only forces. All bytes come back when the owner closes with the broker.
 */
export class Kept implements Readonly<Record<KeptKind, Counted>> {
  readonly groups: Counted;
  readonly members: Counted;
  readonly cursors: Counted;
  readonly deliveries: Counted;
  readonly notes: Counted;
  readonly holes: Counted;
  readonly attempts: Counted;
  readonly #owner: Owner;

  constructor(owner: Owner) {
    this.#owner = owner;
    this.groups = owner.kind('groups');
    this.members = owner.kind('members');
    this.cursors = owner.kind('cursors');
    this.deliveries = owner.kind('deliveries');
    this.notes = owner.kind('notes');
    this.holes = owner.kind('holes');
    this.attempts = owner.kind('attempts');
  }

  /**
   * Counts all of it, until it is released. @throws Rejection BROKER_FULL, BROKER_BUSY, NOT_OWNER
   */
  reserve(wanted: KeptBytes): Reservation {
    if (this.#owner.isClosed) throw notOwner('TAKEN_OVER');
    const holds: Hold[] = [];
    try {
      for (const name of names) if ((wanted[name] ?? 0) > 0) holds.push(this[name].hold(wanted[name] ?? 0));
    } catch (error) {
      for (const hold of holds) hold.release();
      throw error;
    }
    return new Reservation(holds);
  }

  force(bytes: KeptBytes): void {
    for (const name of names) this[name].force(bytes[name] ?? 0);
  }

  give(bytes: KeptBytes): void {
    for (const name of names) this[name].give(bytes[name] ?? 0);
  }
}

/** Bytes that a call may need until it has ended. */
export class Reservation {
  readonly #holds: readonly Pick<Hold, 'release'>[];

  constructor(holds: readonly Pick<Hold, 'release'>[]) {
    this.#holds = holds;
  }

  /** Idempotent. */
  release(): void {
    for (const hold of this.#holds) hold.release();
  }
}

export function added(a: KeptBytes, b: KeptBytes): KeptBytes {
  return Object.fromEntries(names.map((name) => [name, (a[name] ?? 0) + (b[name] ?? 0)]));
}

/** Counts the change of what was counted before. @returns what is counted now. */
export function recounted(counted: Counted, before: number, now: number): number {
  if (now > before) counted.force(now - before);
  else counted.give(before - now);
  return now;
}
