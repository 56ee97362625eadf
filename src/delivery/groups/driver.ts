import type { Group, GroupEffect, GroupInput, MemberId } from '../../coordinator/group.ts';
import { Fault } from '../../errors/fault.ts';
import { groupDeleted, groupNotEmpty } from '../../errors/rejections/groups.ts';
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
import { timeUp, within } from '../../time/within.ts';
import type { GroupContext } from './context.ts';
import { notOwner } from '../dispatch/not-owner.ts';
import type { GroupEffects } from './effects.ts';
import type { GroupModel } from './model.ts';

type Refused = Extract<GroupEffect, { type: 'refused' }>;

/** What the coordinator refuses, as the caller reads it. */
const rejectionOf: Readonly<Record<Refused['reason'], (explanation: string, memberId: MemberId) => Rejection>> = {
  MEMBER_UNKNOWN: (_, memberId) => memberFenced({ memberId }),
  INSTANCE_FENCED: (_, memberId) => instanceFenced({ memberId }),
  INSTANCE_ID_IN_USE: instanceIdInUse,
  INCONSISTENT_PROTOCOLS: inconsistentProtocols,
  ASSIGNOR_FAILED: assignorFailed,
  NOT_LEADER: notLeader,
  STALE_GENERATION: planStale,
  GROUP_NOT_EMPTY: groupNotEmpty,
  GROUP_DEAD: groupDeleted,
};

/** The member that a refused input is about; only a delete is about none. */
function memberOf(input: GroupInput): MemberId {
  if (input.type === 'join') return input.member.memberId;
  return 'memberId' in input ? input.memberId : ('' as MemberId);
}

/** An input, and who waits for what comes of it. */
interface Entry {
  readonly input: GroupInput;
  readonly done: PromiseWithResolvers<void> | null;
}

/**
 * Drives one group: inputs go to the coordinator, what it decides is made durable, and then its effects are carried out.
 *
 * Inputs are stepped one bundle at a time. While the result of one is being written, later ones wait and go together in the next
 * bundle; and the coordinator itself gathers what comes soon after a rebalance. That is what turns joins that come close together into one.
 */
export class GroupDriver {
  readonly #state: GroupModel;
  readonly #machine: Group;
  readonly #effects: GroupEffects;
  readonly #context: GroupContext;
  #next: Entry[] = [];
  /** Taken by the coordinator, which has not told what came of them. */
  #gathered: Entry[] = [];
  /** Called after each bundle: what waits for a change of the assignment. */
  readonly #watchers = new Set<() => void>();
  #stepping = false;
  #cancelTimer: (() => void) | null = null;
  #timerAtMs = Infinity;
  #stopped = false;

  constructor(state: GroupModel, machine: Group, effects: GroupEffects, context: GroupContext) {
    this.#state = state;
    this.#machine = machine;
    this.#effects = effects;
    this.#context = context;
  }

  /** Adds an input to the next bundle, without starting it. */
  add(input: GroupInput): void {
    this.#next.push({ input, done: null });
  }

  /** Feeds the coordinator an input that nobody waits for. */
  tell(input: GroupInput): void {
    this.add(input);
    this.#start();
  }

  /**
   * Feeds the coordinator. Resolves when what came of it is durable and carried out.
   * @throws Rejection if the coordinator refuses it, Fault if the broker is fenced first.
   */
  feed(input: GroupInput): Promise<void> {
    const done = Promise.withResolvers<void>();
    // Not everybody who feeds an input waits for it; the writer has reported the fault by then.
    done.promise.catch(() => undefined);
    this.#next.push({ input, done });
    if (this.#stopped) done.reject(notOwner());
    else this.#start();
    return done.promise;
  }

  /** Resolves when `ready` is true or the time is over; asked after each change of the group. */
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

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer?.();
    for (const { done } of [...this.#gathered, ...this.#next]) done?.reject(notOwner());
    this.#gathered = this.#next = [];
  }

  #start(): void {
    if (this.#stepping) return;
    this.#stepping = true;
    void this.#stepAll();
  }

  async #stepAll(): Promise<void> {
    // The first await lets inputs of the same turn join the bundle.
    await Promise.resolve();
    while (this.#next.length > 0 && !this.#stopped) {
      const bundle = this.#next;
      this.#next = [];
      for (const entry of bundle) if (entry.done !== null) this.#gathered.push(entry);
      try {
        await this.#step(bundle);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        // Only being fenced gets here: the writer repeats everything else.
        this.stop();
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
    for (const effect of effects) {
      if (effect.type === 'refused') this.#refuse(effect);
      if (effect.type !== 'persist') continue;
      await writer.save(this.#state.id, effect.change);
      this.#state.persisted(effect.change.generation);
    }
    if (this.#stopped) return;
    if (effects.length > 0) this.#carryOut(effects);
    if (preparing) return;
    for (const { done } of this.#gathered.splice(0)) done?.resolve();
  }

  #carryOut(effects: readonly GroupEffect[]): void {
    for (const effect of effects) {
      for (const partition of this.#effects.carryOut(effect)) this.tell({ type: 'drained', partition });
    }
    for (const look of [...this.#watchers]) look();
  }

  /** What the members are doing whose max poll interval may be over. */
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
    // A deadline that moved away needs no new timer: the old one finds nothing due and arms again. Heartbeats are cheap so.
    if (this.#stopped || atMs >= this.#timerAtMs) return;
    this.#cancelTimer?.();
    this.#timerAtMs = atMs;
    const { clock } = this.#context;
    this.#cancelTimer = clock.after(Math.max(0, Math.ceil(atMs - clock.nowMs())), () => {
      this.#timerAtMs = Infinity;
      this.tell({ type: 'tick' });
    });
  }
}
