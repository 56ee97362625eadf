import { Fault } from '../errors/fault.ts';
import { present } from '../errors/present.ts';
import type { StoredStart } from '../log/store.ts';
import { decide, gapReasonOf, type RetentionDecision } from '../retention/decision.ts';
import type { GapReason } from '../retention/gap.ts';
import { Backoff } from '../time/backoff.ts';
import type { Clock, Random } from '../time/clock.ts';
import { Once } from '../time/once.ts';
import type { DroppedSegment, Planned, RetentionStore, StoredFacts } from './store.ts';

/** The logs in memory, which follow each drop. */
interface TrimmedLogs {
  /** Moves the starts of logs behind what was dropped. */
  trim(topicId: number, starts: readonly StoredStart[], reason: GapReason): Promise<void>;
}

/** The consumers in memory. */
interface TrimmedGroups {
  /**
   * Runs a plan that drops records below the starts, while no record of these subscriptions that
   * are below a start is MOVING.
   */
  whileTrimmed<T>(
    topicId: number,
    starts: readonly StoredStart[],
    subscriptionIds: ReadonlySet<number>,
    work: () => Promise<T>,
  ): Promise<T>;
  /** Resolves when all acks that are durable by now are in the table of cursors. */
  foldNow(): Promise<void>;
}

export interface TopicCleanupDeps {
  readonly store: Pick<RetentionStore, 'facts' | 'plan' | 'decidedStarts' | 'firstOffsets'>;
  readonly logs: TrimmedLogs;
  readonly groups: TrimmedGroups;
  readonly clock: Clock;
  readonly random: Random;
  /** Whether a cap may drop what was acked and not folded: the disk is full. */
  readonly isDiskFull: () => boolean;
  readonly onDropped: (topicId: number, dropped: readonly DroppedSegment[]) => void;
}

/** What a look at a topic has found and done. */
export interface TopicCleaned {
  readonly facts: StoredFacts;
  readonly decision: RetentionDecision;
  /** When there is more to do at once or later; null if only time or a change brings more. */
  readonly againInMs: number | null;
}

/** After a plan that could not be made. A topic rests longer than that after a look. */
const retryMs = 1_000;
/** A plan whose facts have changed meanwhile is made so many times. */
const plansMax = 3;
/** Folds for caps come so often at most, and serve the caps of other topics for a while. */
const foldIntervalMs = 30_000;
const foldServesMs = 5_000;

/**
 * Cleans a topic: reads the facts, decides, and drops what may go. A cap first has the acks folded
 * into the cursors, or it would drop as owed what is done.
 */
export class TopicCleanup {
  readonly #d: TopicCleanupDeps;
  readonly #folding = new Once<'fold', boolean>();
  #foldedMs = -Infinity;

  constructor(deps: TopicCleanupDeps) {
    this.#d = deps;
  }

  /** @returns null if the topic is gone. @throws Fault */
  async clean(topicId: number, signal: AbortSignal): Promise<TopicCleaned | null> {
    for (let plans = 1; ; plans += 1) {
      const found = await this.#decided(topicId);
      if (found === null) return null;
      const { facts, decision } = found;
      if (decision.drop.length === 0 && decision.complete.length === 0) return found;
      const planned = await this.#carryOut(facts, decision, signal);
      if (planned === 'CHANGED' && plans < plansMax) continue;
      if (typeof planned === 'string') return { ...found, againInMs: retryMs };
      // A plan may be carried out in parts, because each holds a lock of the topic.
      const isWhole = planned.dropped.length === decision.drop.length;
      return { ...found, againInMs: isWhole ? found.againInMs : 0 };
    }
  }

  async #decided(topicId: number): Promise<TopicCleaned | null> {
    const facts = await this.#d.store.facts(topicId);
    if (facts === null) return null;
    const decision = decide(facts);
    if (!takesOwed(decision)) return { facts, decision, againInMs: null };
    const waitMs = this.#d.clock.nowMs() - this.#foldedMs < foldServesMs ? 0 : await this.#fold();
    if (waitMs === 0) {
      const folded = await this.#d.store.facts(topicId);
      return folded === null ? null : { facts: folded, decision: decide(folded), againInMs: null };
    }
    // A full disk may be why nothing can be folded.
    if (this.#d.isDiskFull()) return { facts, decision, againInMs: null };
    return { facts, decision: decide(uncapped(facts)), againInMs: waitMs };
  }

  /** @returns 0 after a fold; else how long caps wait for the next one. */
  async #fold(): Promise<number> {
    const { clock, groups } = this.#d;
    const waitMs = this.#foldedMs + foldIntervalMs - clock.nowMs();
    if (waitMs > 0) return waitMs;
    const isFolded = await this.#folding.run('fold', async () => {
      try {
        await groups.foldNow();
        return true;
      } catch (error) {
        if (error instanceof Fault) return false;
        throw error;
      } finally {
        this.#foldedMs = clock.nowMs();
      }
    });
    if (!isFolded) this.#foldedMs = -Infinity;
    return isFolded ? 0 : foldIntervalMs;
  }

  /** Only a cap, and the end of an excused time, pass subscriptions that need what is dropped. */
  async #carryOut(
    facts: StoredFacts,
    decision: RetentionDecision,
    signal: AbortSignal,
  ): Promise<Planned | 'CHANGED' | 'BUSY'> {
    const { store, groups } = this.#d;
    const { topicId } = facts;
    const last = decision.drop.at(-1)?.segment ?? -Infinity;
    const passed = facts.claims.filter(({ needs }) => needs <= last);
    const work = (): Promise<Planned | 'CHANGED' | 'BUSY'> => this.#plan(facts, decision, signal);
    if (passed.length === 0) return work();
    const first = present(decision.kept[0], 'the current segment stays').segment;
    const starts = (await store.firstOffsets(topicId, [first], Infinity)).get(first) ?? [];
    return groups.whileTrimmed(topicId, starts, new Set(passed.map((claim) => claim.subscriptionId)), work);
  }

  /** Plans, and lets memory follow before anything else moves. */
  async #plan(
    facts: StoredFacts,
    { drop, complete }: RetentionDecision,
    signal: AbortSignal,
  ): Promise<Planned | 'CHANGED' | 'BUSY'> {
    const { store, logs, onDropped } = this.#d;
    const { topicId } = facts;
    let planned: Planned | 'CHANGED' | 'BUSY';
    try {
      planned = await store.plan({ facts, drop, complete });
    } catch (error) {
      if (!(error instanceof Fault) || error.kind !== 'OUTCOME_UNKNOWN') throw error;
      planned = { dropped: [], starts: await this.#outcome(topicId, error, signal) };
    }
    if (typeof planned === 'string') return planned;
    if (drop.length > 0) await logs.trim(topicId, planned.starts, gapReasonOf(drop));
    if (planned.dropped.length > 0) onDropped(topicId, planned.dropped);
    return planned;
  }

  /** The starts of the logs after a plan with a lost answer. Nothing moves until they are known. */
  async #outcome(topicId: number, unknown: Fault, signal: AbortSignal): Promise<readonly StoredStart[]> {
    for (const backoff = new Backoff(this.#d.clock, this.#d.random); ;) {
      try {
        return await this.#d.store.decidedStarts(topicId);
      } catch (error) {
        if (!(error instanceof Fault) || error.kind === 'FENCED') throw error;
      }
      await backoff.pause(signal);
      if (signal.aborted) throw unknown;
    }
  }
}

/** Whether a cap takes what an ACTIVE or PAUSED subscription needs by its folded cursors. */
function takesOwed({ drop, live }: RetentionDecision): boolean {
  const capped = drop.findLast(({ reason }) => reason === 'MAX_AGE' || reason === 'MAX_BYTES');
  return capped !== undefined && (live[0]?.needs ?? Infinity) <= capped.segment;
}

function uncapped(facts: StoredFacts): StoredFacts {
  return { ...facts, settings: { ...facts.settings, maxAgeMs: null, maxBytes: null } };
}
