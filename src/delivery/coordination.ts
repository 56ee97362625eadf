import { Group, type GroupEffect, type GroupInput, type GroupSnapshot } from '../coordinator/group.ts';
import { Fault } from '../errors/fault.ts';
import type { GroupContext } from './context.ts';
import { notOwner } from './not-owner.ts';

/**
 * Drives the coordinator of one group: inputs in, effects out, and what is durable written in between.
 *
 * Inputs are stepped one bundle at a time. While the result of one is being written, later ones wait and go together
 * in the next bundle: that is what turns joins that come close together into one rebalance.
 */
export class Coordination {
  readonly machine: Group;
  readonly #groupId: number;
  readonly #context: GroupContext;
  readonly #carryOut: (effects: readonly GroupEffect[]) => void;
  #generation: number;
  #next = newBundle();
  #stepping = false;
  #cancelTimer: (() => void) | null = null;
  #timerAtMs = Infinity;
  #stopped = false;

  constructor(
    groupId: number,
    snapshot: GroupSnapshot,
    context: GroupContext,
    carryOut: (effects: readonly GroupEffect[]) => void,
  ) {
    this.#groupId = groupId;
    this.#context = context;
    this.#carryOut = carryOut;
    this.#generation = snapshot.generation;
    this.machine = new Group(snapshot, context.clock.nowMs(), { assignors: context.assignors });
  }

  /**
   * That of the last step which is durable. The machine may be ahead of it by one; told to a member, that one would be used
   * again, for another assignment, by a successor that finds it was never written.
   */
  get generation(): number {
    return this.#generation;
  }

  /** Adds an input to the next bundle, without starting it. */
  add(input: GroupInput): void {
    this.#next.inputs.push(input);
  }

  /** Feeds the coordinator. Resolves when what came of it is durable and carried out; rejects if the broker is fenced first. */
  feed(input: GroupInput): Promise<void> {
    const bundle = this.#next;
    bundle.inputs.push(input);
    if (!this.#stepping) {
      this.#stepping = true;
      void this.#stepAll();
    }
    return bundle.done.promise;
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer?.();
    this.#next.done.reject(notOwner());
  }

  async #stepAll(): Promise<void> {
    // The first await lets inputs of the same turn join the bundle.
    await Promise.resolve();
    while (this.#next.inputs.length > 0 && !this.#stopped) {
      const bundle = this.#next;
      this.#next = newBundle();
      try {
        await this.#step(bundle.inputs);
        bundle.done.resolve();
      } catch (error) {
        bundle.done.reject(error);
        if (!(error instanceof Fault)) throw error;
        // Only being fenced gets here: the writer repeats everything else.
        this.stop();
      }
    }
    this.#stepping = false;
    this.#armTimer();
  }

  async #step(inputs: readonly GroupInput[]): Promise<void> {
    const effects = this.machine.step(inputs, this.#context.clock.nowMs());
    for (const effect of effects) {
      if (effect.type !== 'persist') continue;
      await this.#context.writer.save(this.#groupId, effect.change);
      this.#generation = effect.change.generation;
    }
    if (effects.length > 0 && !this.#stopped) this.#carryOut(effects);
  }

  #armTimer(): void {
    const atMs = this.machine.nextDeadlineMs() ?? Infinity;
    // A deadline that moved away needs no new timer: the old one finds nothing due and arms again. Heartbeats are cheap so.
    if (this.#stopped || atMs >= this.#timerAtMs) return;
    this.#cancelTimer?.();
    this.#timerAtMs = atMs;
    const { clock } = this.#context;
    this.#cancelTimer = clock.after(Math.max(0, Math.ceil(atMs - clock.nowMs())), () => {
      this.#timerAtMs = Infinity;
      void this.feed({ type: 'tick' });
    });
  }
}

interface Bundle {
  readonly inputs: GroupInput[];
  readonly done: PromiseWithResolvers<void>;
}

function newBundle(): Bundle {
  const done = Promise.withResolvers<void>();
  // Not everybody who feeds an input waits for it; the writer has reported the fault by then.
  done.promise.catch(() => undefined);
  return { inputs: [], done };
}
