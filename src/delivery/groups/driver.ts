import type { Group, GroupEffect, GroupInput, MemberId, PartitionRef } from '../../coordinator/group.ts';
import { Fault } from '../../errors/fault.ts';
import { groupDeleted, groupNotEmpty, groupTaskTooLarge } from '../../errors/rejections/groups.ts';
import {
  assignorFailed,
  inconsistentProtocols,
  instanceFenced,
  instanceIdInUse,
  memberFenced,
  notLeader,
  planStale,
} from '../../errors/rejections/members.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { Slices } from '../../time/slices.ts';
import { timeUp, within } from '../../time/within.ts';
import type { GroupContext } from './context.ts';
import { notOwner } from '../dispatch/not-owner.ts';
import type { GroupEffects } from './effects.ts';
import type { GroupModel } from './model.ts';

/** A call that is answered takes as long as so many partitions. */
const callWork = 50;

type Refused = Extract<GroupEffect, { type: 'refused' }>;

/** The rejections of inputs that the coordinator refuses. */
const rejectionOf: Readonly<Record<Refused['reason'], (explanation: string, memberId: MemberId) => Rejection>> = {
  MEMBER_UNKNOWN: (_, memberId) => memberFenced({ memberId }),
  INSTANCE_FENCED: (_, memberId) => instanceFenced({ memberId }),
  INSTANCE_ID_IN_USE: instanceIdInUse,
  INCONSISTENT_PROTOCOLS: inconsistentProtocols,
  TASK_TOO_LARGE: groupTaskTooLarge,
  ASSIGNOR_FAILED: assignorFailed,
  NOT_LEADER: notLeader,
  STALE_GENERATION: planStale,
  GROUP_NOT_EMPTY: groupNotEmpty,
  GROUP_DEAD: groupDeleted,
};

/** The member of a refused input. Only a delete has none. */
function memberOf(input: GroupInput): MemberId {
  if (input.type === 'join') return input.member.memberId;
  return 'memberId' in input ? input.memberId : ('' as MemberId);
}

/**
 * Effects that name the generation of their step. Removed and replaced members learn no more of it.
 */
const namesGeneration: ReadonlySet<GroupEffect['type']> = new Set(['revoked', 'revoking', 'assigned', 'rebalanced']);

/** In partitions that move. */
function workOf(effect: GroupEffect): number {
  if (effect.type === 'assigned') return callWork + effect.added.length;
  return 'partitions' in effect ? callWork + effect.partitions.length : callWork;
}

function keyOf({ topicId, partition }: PartitionRef): string {
  return `${topicId}/${partition}`;
}

/** An input, and the promise of the call that waits for it, if one does. */
interface Entry {
  readonly input: GroupInput;
  readonly done: PromiseWithResolvers<void> | null;
}

/**
 * Drives one group: gives inputs to the coordinator, makes its decisions durable, and then carries
 * out its effects.
 *
 * One step takes a bundle of inputs. Inputs that come while the result of a step is being written
 * go together in the next one. The coordinator also gathers inputs that come soon after a
 * rebalance. Both turn joins that come close together into one rebalance.
 */
export class GroupDriver {
  readonly #state: GroupModel;
  readonly #machine: Group;
  readonly #effects: GroupEffects;
  readonly #context: GroupContext;
  #next: Entry[] = [];
  /**
   * The members with a sign of life in `#next`, each with the partitions that it gives back. While
   * the database hangs, heartbeats go on, and nobody waits for what they leave here.
   */
  readonly #alive = new Map<MemberId, Set<string> | null>();
  /** Inputs that the coordinator has taken and not answered yet. */
  #gathered: Entry[] = [];
  /** Called after each step that has effects. */
  readonly #watchers = new Set<() => void>();
  #stepping = false;
  #moving = false;
  readonly #slices: Slices;
  #cancelTimer: (() => void) | null = null;
  #timerAtMs = Infinity;
  /** Why calls get no answer any more. */
  #stopped: Error | null = null;

  constructor(state: GroupModel, machine: Group, effects: GroupEffects, context: GroupContext) {
    this.#state = state;
    this.#machine = machine;
    this.#effects = effects;
    this.#context = context;
    this.#slices = new Slices(context.clock, context.movesAtOnce);
  }

  /**
   * Whether a part of a step is carried out, and the rest of it not yet. What a member holds then
   * is of no generation.
   */
  get isMoving(): boolean {
    return this.#moving;
  }

  /** Adds an input to the next bundle, without starting it. */
  add(input: GroupInput): void {
    if (this.#stopped === null) this.#next.push({ input, done: null });
  }

  /** Gives the coordinator an input for which no call waits. */
  tell(input: GroupInput): void {
    this.add(input);
    this.#start();
  }

  /** Gives the coordinator a sign of life, unless the next bundle has one that says as much. */
  tellAlive(memberId: MemberId, revoked: readonly PartitionRef[]): void {
    const told = this.#alive.get(memberId);
    const news = revoked.filter((ref) => told?.has(keyOf(ref)) !== true);
    if (told !== undefined && news.length === 0) return;
    this.#alive.set(memberId, news.length === 0 ? null : new Set([...(told ?? []), ...news.map(keyOf)]));
    this.tell({ type: 'alive', memberId, revoked: news });
  }

  /**
   * Gives the coordinator an input. Resolves when its effects are durable and carried out.
   * @throws Rejection if the coordinator refuses the input, Fault if the broker is fenced first.
   */
  feed(input: GroupInput): Promise<void> {
    const done = Promise.withResolvers<void>();
    // Not every caller waits for its input, and the writer has reported the fault by then.
    done.promise.catch(() => undefined);
    this.#next.push({ input, done });
    if (this.#stopped !== null) done.reject(this.#stopped);
    else this.#start();
    return done.promise;
  }

  /**
   * Waits until `ready` returns true, the time is over, or the signal aborts. `ready` is called
   * after each change of the group. @returns its last result.
   */
  async watch(ready: () => boolean, waitMs: number, signal: AbortSignal): Promise<boolean> {
    if (ready()) return true;
    const over = Promise.withResolvers<boolean>();
    const look = (): void => {
      if (ready()) over.resolve(true);
    };
    const give = (): void => {
      over.resolve(ready());
    };
    signal.addEventListener('abort', give, { once: true });
    this.#watchers.add(look);
    try {
      const result = await within(this.#context.clock, waitMs, over.promise);
      return result === timeUp ? ready() : result;
    } finally {
      this.#watchers.delete(look);
      signal.removeEventListener('abort', give);
    }
  }

  /** The calls that wait fail with the error. */
  stop(error: Error): void {
    this.#stopped = error;
    this.#cancelTimer?.();
    for (const { done } of [...this.#gathered, ...this.#next]) done?.reject(error);
    this.#gathered = this.#next = [];
    this.#alive.clear();
  }

  #start(): void {
    if (this.#stepping) return;
    this.#stepping = true;
    void this.#stepAll();
  }

  async #stepAll(): Promise<void> {
    // Inputs of the same turn of the event loop join the bundle during this await.
    await Promise.resolve();
    this.#slices.begin();
    while (this.#next.length > 0 && this.#stopped === null) {
      if (!this.#slices.add(this.#next.length)) await this.#slices.next(this.#next.length);
      if (this.#stopped !== null) break;
      const bundle = this.#next;
      this.#next = [];
      this.#alive.clear();
      for (const entry of bundle) if (entry.done !== null) this.#gathered.push(entry);
      try {
        await this.#step(bundle);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        // The broker is fenced. The writer repeats all other faults.
        this.stop(notOwner());
      }
    }
    this.#stepping = false;
    this.#armTimer();
  }

  async #step(bundle: readonly Entry[]): Promise<void> {
    const { clock, writer } = this.#context;
    const nowMs = clock.nowMs();
    const effects = this.#machine.step([...this.#progress(nowMs), ...bundle.map(({ input }) => input)], nowMs);
    const { preparing } = this.#machine;
    let { generation } = this.#state;
    for (const effect of effects) {
      if (effect.type === 'refused') this.#refuse(effect);
      if (effect.type !== 'persist') continue;
      const { change } = effect;
      const rows = change.putAssignments.length + change.removedAssignments.length;
      if (!this.#slices.add(rows)) await this.#slices.next(rows);
      if (this.#stopped !== null) return;
      let heard = false;
      await writer.save(this.#state.id, change, () => {
        const agoMs = this.#state.heardAgoMs(clock.nowMs());
        heard ||= agoMs !== null;
        return agoMs;
      });
      // The write has noted it too.
      if (heard) this.#state.isHeardNoted = true;
      this.#slices.begin();
      ({ generation } = change);
    }
    if (effects.length > 0 && this.#stopped === null) await this.#carryOut(effects, generation);
    if (!preparing && this.#gathered.length > 0) await this.#answer();
  }

  /**
   * Carries out a durable step. No other step begins before its end: inputs that come between two
   * slices go into the next one. The generation is that of the step as soon as a member learns of
   * it, and not before all members have lost what they have lost in it.
   */
  async #carryOut(effects: readonly GroupEffect[], generation: number): Promise<void> {
    this.#moving = true;
    for (const effect of effects) {
      const work = workOf(effect);
      const hasRoom = this.#slices.add(work) || effect.type === 'revoked';
      if (!hasRoom) await this.#slices.next(work);
      if (this.#stopped !== null) return;
      if (namesGeneration.has(effect.type)) this.#state.persisted(generation);
      for (const partition of this.#effects.carryOut(effect)) this.tell({ type: 'drained', partition });
    }
    this.#state.persisted(generation);
    this.#moving = false;
    for (const look of [...this.#watchers]) {
      if (!this.#slices.add(callWork)) await this.#slices.next(callWork);
      if (this.#stopped !== null) return;
      if (this.#watchers.has(look)) look();
    }
  }

  async #answer(): Promise<void> {
    for (let entry = this.#gathered.shift(); entry !== undefined; entry = this.#gathered.shift()) {
      entry.done?.resolve();
      if (!this.#slices.add(callWork)) await this.#slices.next(callWork);
    }
  }

  /** The progress of the members whose max poll interval may be over. */
  #progress(nowMs: number): GroupInput[] {
    return this.#machine.overdue(nowMs).map((memberId) => {
      const busySinceMs = this.#state.members.get(memberId)?.busySinceMs(nowMs) ?? null;
      return { type: 'progress', memberId, busySinceMs };
    });
  }

  #refuse({ input, reason, message }: Refused): void {
    const at = this.#gathered.findIndex((entry) => entry.input === input);
    const [entry] = at < 0 ? [] : this.#gathered.splice(at, 1);
    entry?.done?.reject(rejectionOf[reason](message, memberOf(input)));
  }

  #armTimer(): void {
    const atMs = this.#machine.nextDeadlineMs() ?? Infinity;
    // A later deadline needs no new timer, because the old one finds nothing due and arms again. So
    // heartbeats set no timer.
    if (this.#stopped !== null || atMs >= this.#timerAtMs) return;
    this.#cancelTimer?.();
    this.#timerAtMs = atMs;
    const { clock } = this.#context;
    this.#cancelTimer = clock.after(Math.max(0, Math.ceil(atMs - clock.nowMs())), () => {
      this.#timerAtMs = Infinity;
      this.tell({ type: 'tick' });
    });
  }
}
