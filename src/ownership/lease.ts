import assert from 'node:assert/strict';
import type { LeaseRow, LockHolder } from './store.ts';
import {
  leaseMs,
  renewMs,
  pollMs,
  confirmMs,
  confirmPollMs,
  relockMs,
  deliveryMarginMs,
  standbyRetryMs,
  courtesyMs,
  renewRetryMs,
  renewRetryMsMax,
  evictedPollMs,
  evictionsMax,
} from './lease-times.ts';

/**
 * Who owns the database, seen from one broker. Pure: inputs and time in, effects out.
 *
 *     STANDBY ──looked──▶ PREPARING ──prepared──▶ TAKING_OVER ──takenOver──▶ ACTIVE ──gone, fenced──▶ LOST
 *        ▲   └─looked, evicted─┘ │ failed              │ failed, overtaken     │ ▲
 *        └───────────────────────┴─────────────────────┘                       └─┘ renewed, relocked, failed, unlocked
 *
 *     release: any ──▶ RELEASED     broken, abandon: any ──▶ LOST     LOST and RELEASED are final
 *
 * Invariants (SPEC.md has the reasons and names the tests):
 *  1. At most one operation is under way; the next begins after its result came in.
 *  2. It becomes ACTIVE only through `takenOver`, and with that epoch only.
 *  3. `mayDeliver` only while ACTIVE and while the last successful renewal, from the moment it was
 *     sent, is younger than the lease less the margin.
 *  4. While ACTIVE only `gone`, `fenced`, `broken`, `abandon` and `release` end it: losing the lock
 *     or the database does not.
 *  5. It takes over only with the lock in hand, or when the lease ran out and the lock cannot be
 *     taken from its owner.
 *  6. In a final state it gives up what it holds exactly once, after the operation under way has
 *     ended.
 *  7. A lease that is young and was not given up is taken over only after two looks, `confirmMs`
 *     apart, found the lock free and the lease not renewed in between.
 */
export class Lease {
  #state: LeaseState = 'STANDBY';
  #epoch: number | null = null;
  #busy = false;
  #gaveUp = false;
  #seen: LeaseRow | null = null;
  /**
   * The young lease that is not renewed although its lock is free, and since when that is known.
   */
  #unrenewed: { readonly renewal: string; readonly sinceMs: number } | null = null;
  /** When the next operation is due, and when the last one was begun. */
  #dueMs = -Infinity;
  #begunMs = -Infinity;
  #renewedMs = -Infinity;
  #renewalDueMs = -Infinity;
  #failures = 0;
  #evictions = 0;
  /** The operation under way, or the last one, is a look that tries the lock. */
  #tried = false;
  /** The lock was lost while the operation under way was. */
  #lockLost = false;

  get state(): LeaseState {
    return this.#state;
  }

  /** The epoch of the lease, once this broker had one. */
  get epoch(): number | null {
    return this.#epoch;
  }

  /** Whether the lease cannot have run out yet, whatever the database has done since. */
  mayDeliver(nowMs: number): boolean {
    return this.#state === 'ACTIVE' && nowMs < this.#renewedMs + leaseMs - deliveryMarginMs;
  }

  /** When a `tick` is due; null while an operation is under way, and at the end. */
  get wakeMs(): number | null {
    return this.#busy || this.#final ? null : this.#dueMs;
  }

  step(input: LeaseInput, nowMs: number): LeaseEffect[] {
    if (isResult(input)) this.#busy = false;
    const effects = this.#take(input, nowMs);
    if (this.#final && !this.#busy && !this.#gaveUp) {
      this.#gaveUp = true;
      effects.push({ type: 'release', epoch: this.#epoch });
    }
    return effects;
  }

  get #final(): boolean {
    return this.#state === 'LOST' || this.#state === 'RELEASED';
  }

  #take(input: LeaseInput, nowMs: number): LeaseEffect[] {
    // A release that came during the takeover: give up the database again.
    if (input.type === 'takenOver' && this.#final) this.#epoch = input.epoch;
    if (this.#final) return [];
    switch (input.type) {
      case 'tick':
        return this.#tick(nowMs);
      case 'looked':
        return this.#looked(input, nowMs);
      case 'evicted':
        return this.#evicted(input.allowed, nowMs);
      case 'prepared':
        return this.#prepared(nowMs);
      case 'takenOver':
        return this.#takenOver(input.epoch, nowMs);
      case 'renewed':
        return this.#renewed(input.locked, nowMs);
      case 'relocked':
        return this.#relocked(input.locked, nowMs);
      case 'overtaken':
        return this.#overtaken(nowMs);
      case 'gaveBack':
        return this.#standBy(nowMs + pollMs);
      case 'failed':
        return this.#failed(input.jitter, nowMs);
      case 'unlocked':
        return this.#unlocked(nowMs);
      case 'gone':
        return this.#lose('another broker has taken over');
      case 'fenced':
        return this.#state === 'ACTIVE' ? this.#lose('another broker has taken over: a write was fenced') : [];
      case 'broken':
      case 'abandon':
        return this.#lose(input.reason);
      case 'release':
        this.#state = 'RELEASED';
        return [];
    }
  }

  #tick(nowMs: number): LeaseEffect[] {
    if (this.#busy || nowMs < this.#dueMs) return [];
    if (this.#state === 'ACTIVE') return nowMs < this.#renewalDueMs ? this.#relock(nowMs) : this.#renew(nowMs);
    assert(this.#state === 'STANDBY', 'only a standby waits');
    return this.#begin({ type: 'look', lock: false }, nowMs);
  }

  #looked(looked: Looked, nowMs: number): LeaseEffect[] {
    const { locked, lease, lockedBy } = looked;
    this.#seen = lease;
    const vacant = this.#isVacant(looked, nowMs);
    if (this.#failures > 0) {
      // A restarted database has dropped its owner's lock. The owner should get the lock again, and
      // reconnects sooner.
      this.#failures = 0;
      return locked ? this.#begin({ type: 'unlock' }, nowMs) : this.#standBy(nowMs + courtesyMs);
    }
    if (locked) return vacant ? this.#prepare(nowMs) : this.#begin({ type: 'unlock' }, nowMs);
    if (lockedBy === null) {
      const mayTry = vacant && !this.#tried;
      return mayTry ? this.#begin({ type: 'look', lock: true }, nowMs) : this.#standBy(nowMs + confirmPollMs);
    }
    return this.#lookedAtOwner(lease, lockedBy, nowMs);
  }

  #lookedAtOwner(lease: LeaseRow | null, lockedBy: LockHolder, nowMs: number): LeaseEffect[] {
    const held = lease !== null && [lease.broker, null].includes(lockedBy.broker);
    if (!held || lease.ageMs < leaseMs) {
      // The holder of the lock is alive, or is taking over itself.
      this.#evictions = 0;
      return this.#standBy(nowMs + pollMs);
    }
    this.#evictions += 1;
    if (this.#evictions > evictionsMax) return this.#prepare(nowMs);
    return this.#begin({ type: 'evict', broker: lease.broker, ageMsMin: leaseMs }, nowMs);
  }

  /**
   * Whether the owner has been silent for long enough, with the lock free or in hand. A free lock
   * alone is a weak sign, because a session may be cut while its broker is well. Such a broker
   * renews its lease at once, so a young lease is watched for a while.
   */
  #isVacant({ locked, lease, lockedBy }: Looked, nowMs: number): boolean {
    const held = lockedBy !== null && !locked;
    if (held || lease === null || lease.ageMs >= leaseMs) {
      this.#unrenewed = null;
      return !held;
    }
    if (this.#unrenewed?.renewal !== lease.renewal) {
      this.#unrenewed = { renewal: lease.renewal, sinceMs: nowMs };
      return false;
    }
    return this.#begunMs >= this.#unrenewed.sinceMs + confirmMs;
  }

  #evicted(allowed: boolean, nowMs: number): LeaseEffect[] {
    if (!allowed) return this.#prepare(nowMs);
    return this.#standBy(nowMs + evictedPollMs);
  }

  #prepare(nowMs: number): LeaseEffect[] {
    this.#state = 'PREPARING';
    return this.#begin({ type: 'prepare' }, nowMs);
  }

  #prepared(nowMs: number): LeaseEffect[] {
    // Another broker may be preparing by now.
    if (this.#lockLost) return this.#standBy(nowMs);
    this.#state = 'TAKING_OVER';
    return this.#begin({ type: 'takeOver', seen: this.#seen }, nowMs);
  }

  /** Gives the lock back at once, because the owner that has renewed its lease tries to take it. */
  #overtaken(nowMs: number): LeaseEffect[] {
    this.#state = 'STANDBY';
    return this.#begin({ type: 'unlock' }, nowMs);
  }

  #standBy(dueMs: number): LeaseEffect[] {
    this.#state = 'STANDBY';
    this.#dueMs = dueMs;
    return [];
  }

  #takenOver(epoch: number, nowMs: number): LeaseEffect[] {
    this.#state = 'ACTIVE';
    this.#epoch = epoch;
    this.#renewed(true, nowMs);
    return [{ type: 'active', epoch }];
  }

  /**
   * A renewal counts from when it was sent, because the database may have made it at that moment.
   */
  #renewed(locked: boolean, nowMs: number): LeaseEffect[] {
    this.#failures = 0;
    this.#renewedMs = this.#begunMs;
    this.#renewalDueMs = this.#begunMs + renewMs;
    return this.#relocked(locked, nowMs);
  }

  /** A standby may hold the lock for a moment, until it finds the lease renewed. */
  #relocked(locked: boolean, nowMs: number): LeaseEffect[] {
    if (this.#lockLost) this.#renewalDueMs = nowMs;
    this.#dueMs = locked ? this.#renewalDueMs : Math.min(this.#renewalDueMs, nowMs + relockMs);
    return [];
  }

  #failed(jitter: number, nowMs: number): LeaseEffect[] {
    this.#failures += 1;
    if (this.#state !== 'ACTIVE') return this.#standBy(nowMs + standbyRetryMs * (1 + jitter / 4));
    const retryMs = Math.min(renewRetryMsMax, renewRetryMs * 2 ** (this.#failures - 1));
    this.#dueMs = this.#renewalDueMs = nowMs + retryMs * (1 + jitter / 4);
    return [];
  }

  /**
   * Renews the lease and takes the lock again at once, because a standby that finds the lock free
   * watches the lease only for a moment.
   */
  #unlocked(nowMs: number): LeaseEffect[] {
    if (this.#busy) this.#lockLost = true;
    else if (this.#state === 'ACTIVE') this.#dueMs = this.#renewalDueMs = nowMs;
    return [];
  }

  #renew(nowMs: number): LeaseEffect[] {
    assert(this.#epoch !== null, 'an active broker has an epoch');
    return this.#begin({ type: 'renew', epoch: this.#epoch }, nowMs);
  }

  #relock(nowMs: number): LeaseEffect[] {
    return this.#begin({ type: 'relock' }, nowMs);
  }

  #lose(reason: string): LeaseEffect[] {
    this.#state = 'LOST';
    return [{ type: 'lost', reason }];
  }

  #begin(operation: LeaseOperation, nowMs: number): LeaseEffect[] {
    assert(!this.#busy, 'one operation at a time');
    this.#busy = true;
    this.#lockLost = false;
    this.#tried = operation.type === 'look' && operation.lock;
    this.#begunMs = nowMs;
    return [operation];
  }
}

export type LeaseState = 'STANDBY' | 'PREPARING' | 'TAKING_OVER' | 'ACTIVE' | 'LOST' | 'RELEASED';

interface Looked {
  readonly type: 'looked';
  /** This broker holds the lock. */
  readonly locked: boolean;
  readonly lease: LeaseRow | null;
  readonly lockedBy: LockHolder | null;
}

/** The result of an operation. */
export type LeaseResult =
  | Looked
  | { readonly type: 'evicted'; readonly allowed: boolean }
  | { readonly type: 'prepared' }
  | { readonly type: 'takenOver'; readonly epoch: number }
  | { readonly type: 'overtaken' }
  | { readonly type: 'gaveBack' }
  /** `locked`: this broker holds the lock too. */
  | { readonly type: 'renewed'; readonly locked: boolean }
  | { readonly type: 'relocked'; readonly locked: boolean }
  /** The renewal found another broker's lease. */
  | { readonly type: 'gone' }
  /** The database did not answer, so the outcome is unknown. `jitter` is in [0, 1). */
  | { readonly type: 'failed'; readonly jitter: number }
  /** The operation can never succeed. */
  | { readonly type: 'broken'; readonly reason: string };

export type LeaseInput =
  | LeaseResult
  | { readonly type: 'tick' }
  /** The session that held the lock has ended. */
  | { readonly type: 'unlocked' }
  /** A write of this broker met the fence of a later epoch. */
  | { readonly type: 'fenced' }
  /** The owner cannot do its work. */
  | { readonly type: 'abandon'; readonly reason: string }
  | { readonly type: 'release' };

export type LeaseOperation =
  /** Reads the lease; with `lock`, takes the lock first. */
  | { readonly type: 'look'; readonly lock: boolean }
  | { readonly type: 'evict'; readonly broker: string; readonly ageMsMin: number }
  /** Migrates the database. */
  | { readonly type: 'prepare' }
  | { readonly type: 'takeOver'; readonly seen: LeaseRow | null }
  /** Gives the lock back. */
  | { readonly type: 'unlock' }
  /** Renews the lease, and takes the lock again if it was lost. */
  | { readonly type: 'renew'; readonly epoch: number }
  /** Takes the lock again, between two renewals. */
  | { readonly type: 'relock' };

export type LeaseEffect =
  | LeaseOperation
  | { readonly type: 'active'; readonly epoch: number }
  | { readonly type: 'lost'; readonly reason: string }
  | { readonly type: 'release'; readonly epoch: number | null };

function isResult(input: LeaseInput): input is LeaseResult {
  return !['tick', 'unlocked', 'fenced', 'abandon', 'release'].includes(input.type);
}
