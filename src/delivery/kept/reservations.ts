import { weights } from '../../account/weights.ts';
import type { Kept, Reservation } from './kept.ts';
import { addedBytes, type MemberGrowth } from './sizes.ts';
import { UnloadedGroups } from './unloaded-groups.ts';

/** A group as far as its size goes. */
interface SizedGroup {
  readonly members: { readonly size: number };
  readonly subscriptions: ReadonlyMap<number, { readonly unheld: number }>;
}

interface ReservationsDeps {
  readonly kept: Kept;
  readonly find: (name: string) => SizedGroup | undefined;
  readonly loaded: () => Iterable<SizedGroup>;
  /** The number of logs of a topic. */
  readonly logsOf: (topicId: number) => number;
}

/** Reserves memory for calls on groups, before they change anything. */
export class Reservations {
  readonly unloaded: UnloadedGroups;
  readonly #d: ReservationsDeps;

  constructor(deps: ReservationsDeps) {
    this.#d = deps;
    this.unloaded = new UnloadedGroups(deps.kept);
  }

  /**
   * For the group and its subscriptions to the topics, as far as they are missing, and for a new
   * member or the growth of one. @throws Rejection BROKER_FULL, NOT_OWNER
   */
  join(name: string, topicIds: readonly number[], member: MemberGrowth | null = null): Reservation {
    const group = this.#d.find(name);
    const topics = topicIds.map((topicId) => ({
      logs: this.#d.logsOf(topicId),
      unheld: group?.subscriptions.get(topicId)?.unheld ?? null,
    }));
    return this.#d.kept.reserve(addedBytes({ newGroup: group === undefined ? name : null, topics, member }));
  }

  /** For the cursors of new logs of a topic. @throws Rejection BROKER_FULL, NOT_OWNER */
  growth(topicId: number, logs: number): Reservation {
    const held = weights.cursor + weights.heldCursor;
    let cursors = this.unloaded.subscribedTo(topicId) * logs * held;
    for (const { subscriptions, members } of this.#d.loaded()) {
      if (subscriptions.has(topicId)) cursors += logs * (members.size > 0 ? held : weights.cursor);
    }
    return this.#d.kept.reserve({ cursors });
  }
}
