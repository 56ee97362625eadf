import { weights } from '../../account/weights.ts';
import { Reservation, type Kept } from './kept.ts';
import { addedBytes, addedCursorBytes, type MemberGrowth } from './sizes.ts';
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

/** A reservation that several calls use. */
interface Shared {
  readonly reservation: Reservation;
  users: number;
}

/** Reserves memory for calls on groups, before they change anything. */
export class Reservations {
  readonly unloaded: UnloadedGroups;
  readonly #d: ReservationsDeps;
  readonly #shared = new Map<string, Shared>();

  constructor(deps: ReservationsDeps) {
    this.#d = deps;
    this.unloaded = new UnloadedGroups(deps.kept);
  }

  /**
   * For the group and its subscriptions to the topics, as far as they are missing, and for a new
   * member or the growth of one. @throws Rejection BROKER_FULL, NOT_OWNER
   */
  join(name: string, topicIds: readonly number[], member: MemberGrowth | null = null): Pick<Reservation, 'release'> {
    const group = this.#d.find(name);
    const reserved = [this.#d.kept.reserve(addedBytes({ newGroup: group === undefined ? name : null, member }))];
    const release = (): void => {
      for (const one of reserved.splice(0)) one.release();
    };
    try {
      for (const topicId of topicIds) {
        const unheld = group?.subscriptions.get(topicId)?.unheld ?? null;
        const mayHold = member !== null || (group !== undefined && group.members.size > 0);
        const bytes = addedCursorBytes(this.#d.logsOf(topicId), unheld, mayHold);
        reserved.push(this.#share(`${name} ${topicId} ${bytes}`, bytes));
      }
    } catch (error) {
      release();
      throw error;
    }
    return { release };
  }

  /** Members that join at once get the cursors of a topic together, so they reserve them once. */
  #share(key: string, cursors: number): Reservation {
    const shared = this.#shared.get(key) ?? { reservation: this.#d.kept.reserve({ cursors }), users: 0 };
    shared.users += 1;
    this.#shared.set(key, shared);
    return new Reservation([
      {
        release: () => {
          shared.users -= 1;
          if (shared.users > 0) return;
          this.#shared.delete(key);
          shared.reservation.release();
        },
      },
    ]);
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
