import { Fault } from '../errors/fault.ts';
import { Trouble } from '../errors/trouble.ts';
import type { Clock, Random } from '../time/clock.ts';
import type { Logger } from '../time/logger.ts';
import {
  Lease,
  type LeaseEffect,
  type LeaseInput,
  type LeaseOperation,
  type LeaseResult,
  type LeaseState,
} from './lease.ts';
import { patienceMs } from './lease-times.ts';
import type { LeaseStore } from './store.ts';

interface OwnershipDeps {
  readonly store: LeaseStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /**
   * Migrates the database, before a takeover, and again if that takeover fails. Any error but a
   * Fault is final.
   */
  readonly prepare: () => Promise<void>;
  /** This broker owns the database. A rejection gives it up again, and ends in `onLost`. */
  readonly onActive: (epoch: number) => Promise<void>;
  /** This broker has lost the database, or can never own it. Called once, and final. */
  readonly onLost: (reason: string) => void;
}

/**
 * Carries out the decisions of the lease machine: one operation on the database at a time, and the
 * timer.
 */
export class Ownership {
  readonly #d: OwnershipDeps;
  readonly #lease = new Lease();
  readonly #released = Promise.withResolvers<void>();
  #cancelTimer: () => void = () => undefined;
  #started = false;
  /** Failures of the database by activity; the latest failure is last. */
  readonly #troubles = new Map<Phase, Trouble>();
  /** The owner in the last log line. */
  #standingBy: string | null = null;

  constructor(deps: OwnershipDeps) {
    this.#d = deps;
    deps.store.onUnlocked(() => {
      if (this.#started) this.#step({ type: 'unlocked' });
    });
  }

  /** Begins to stand by. Idempotent; a stop is final. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    this.#step({ type: 'tick' });
  }

  /**
   * Releases the lease, so that a standby takes over at once. Resolves when that has succeeded or
   * failed; idempotent.
   */
  async stop(): Promise<void> {
    this.#step({ type: 'release' });
    await this.#released.promise;
  }

  /** Whether this broker can be sure that no other broker owns the database, and so may deliver. */
  mayDeliver(): boolean {
    return this.#lease.mayDeliver(this.#d.clock.nowMs());
  }

  get state(): LeaseState {
    return this.#lease.state;
  }

  /** Whether this broker has found another owner, from which it can take over. */
  get standsBy(): boolean {
    return this.#lease.state === 'STANDBY' && this.#standingBy !== null;
  }

  /** The current or last epoch of this broker; null before the first one. */
  get epoch(): number | null {
    return this.#lease.epoch;
  }

  /**
   * The failure that keeps this broker from owning the database or from renewing its lease; null
   * without one.
   */
  get failure(): string | null {
    let failure: string | null = null;
    for (const [phase, { last }] of this.#troubles) if (last !== null) failure = `${phase}: ${last}`;
    return failure;
  }

  /** A write of this broker met the fence: another broker has taken over. */
  fenced(): void {
    this.#step({ type: 'fenced' });
  }

  #step(input: LeaseInput): void {
    this.#cancelTimer();
    const effects = this.#lease.step(input, this.#d.clock.nowMs());
    this.#arm();
    for (const effect of effects) this.#carryOut(effect);
  }

  #arm(): void {
    const { wakeMs } = this.#lease;
    if (wakeMs === null) return;
    const tick = (): void => {
      this.#step({ type: 'tick' });
    };
    this.#cancelTimer = this.#d.clock.after(Math.max(0, wakeMs - this.#d.clock.nowMs()), tick);
  }

  #carryOut(effect: LeaseEffect): void {
    switch (effect.type) {
      case 'active':
        this.#d.log.info({ epoch: effect.epoch }, 'this broker owns the database');
        void this.#activate(effect.epoch);
        return;
      case 'lost':
        this.#d.onLost(effect.reason);
        return;
      case 'release':
        void this.#release(effect.epoch);
        return;
      default:
        void this.#operate(effect);
    }
  }

  async #activate(epoch: number): Promise<void> {
    try {
      await this.#d.onActive(epoch);
    } catch (error) {
      this.#step({ type: 'abandon', reason: messageOf(error) });
    }
  }

  async #release(epoch: number | null): Promise<void> {
    try {
      await this.#d.store.release(epoch);
    } catch (error) {
      // The session ends with the process, and the lease expires.
      this.#d.log.warn({ err: error }, 'the lease could not be given up');
    }
    this.#released.resolve();
  }

  async #operate(operation: LeaseOperation): Promise<void> {
    let result: LeaseResult;
    try {
      result = await this.#perform(operation);
      this.#troubles.get(phases[operation.type])?.worked();
    } catch (error) {
      result = this.#wentWrong(phases[operation.type], error);
    }
    this.#step(result);
  }

  async #perform(operation: LeaseOperation): Promise<LeaseResult> {
    const { store, prepare } = this.#d;
    switch (operation.type) {
      case 'look':
        return this.#look(operation.lock);
      case 'evict': {
        const allowed = await store.evict(operation.broker, operation.ageMsMin);
        this.#d.log.warn({ owner: operation.broker, allowed }, 'the owner is frozen: its hold on the lock is ended');
        return { type: 'evicted', allowed };
      }
      case 'prepare':
        await prepare();
        return { type: 'prepared' };
      case 'takeOver': {
        const epoch = await store.takeOver(operation.seen, patienceMs);
        return epoch === null ? { type: 'overtaken' } : { type: 'takenOver', epoch };
      }
      case 'unlock':
        await store.unlock();
        return { type: 'gaveBack' };
      case 'renew': {
        // The lease first, because a standby that has found the lock free looks at the lease.
        if (!(await store.renew(operation.epoch))) return { type: 'gone' };
        return { type: 'renewed', locked: await store.tryLock() };
      }
      case 'relock':
        return { type: 'relocked', locked: await store.tryLock() };
    }
  }

  async #look(lock: boolean): Promise<LeaseResult> {
    const { store } = this.#d;
    if (lock) await store.tryLock();
    const { lease, locked, lockedBy } = await store.read();
    if (lockedBy !== null && !locked) this.#standBy(lockedBy.broker ?? lease?.broker ?? 'another broker');
    return { type: 'looked', locked, lease, lockedBy };
  }

  #standBy(owner: string): void {
    if (this.#standingBy !== owner) this.#d.log.info({ owner }, 'standing by: another broker owns the database');
    this.#standingBy = owner;
    // A failure on the way to a takeover does not end standing by.
    for (const phase of ['migrating', 'taking over'] as const) this.#troubles.get(phase)?.drop();
  }

  #wentWrong(phase: Phase, error: unknown): LeaseResult {
    if (!(error instanceof Fault)) return { type: 'broken', reason: messageOf(error) };
    const { clock, log, random } = this.#d;
    const trouble = this.#troubles.get(phase) ?? new Trouble({ what: phase, clock, log });
    // Deleted first, so that it becomes the last entry.
    this.#troubles.delete(phase);
    this.#troubles.set(phase, trouble);
    trouble.failed(error);
    return { type: 'failed', jitter: random.fraction() };
  }
}

/** The current activity, for the log and /readyz. */
type Phase = 'looking for the owner' | 'migrating' | 'taking over' | 'renewing the lease';

const phases: Readonly<Record<LeaseOperation['type'], Phase>> = {
  look: 'looking for the owner',
  evict: 'looking for the owner',
  unlock: 'looking for the owner',
  prepare: 'migrating',
  takeOver: 'taking over',
  renew: 'renewing the lease',
  relock: 'renewing the lease',
};

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
