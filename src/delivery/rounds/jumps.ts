import { runFrom } from '../../consumption/offsets/runs.ts';
import type { Cursor } from '../../consumption/partitioned/cursor.ts';
import { Fault } from '../../errors/fault.ts';
import { present } from '../../errors/present.ts';
import { Rejection } from '../../errors/rejections/rejection.ts';
import type { GapReason, LogGap } from '../../retention/gap.ts';
import type { Clock } from '../../time/clock.ts';
import type { Logger } from '../../time/logger.ts';
import type { Feed } from '../dispatch/feed.ts';
import { cursorName, type CursorJump, type GroupStore, type ToldGap } from '../ports/store.ts';
import type { AckRounds } from './ack-rounds.ts';
import type { Moves } from './moves.ts';

/** The most cursors whose gaps one write makes durable. */
const togetherMax = 5_000;
const retryMs = 250;

interface JumpsDeps {
  readonly store: Pick<GroupStore, 'saveGaps' | 'tellGaps'>;
  readonly moves: Moves;
  readonly rounds: AckRounds;
  readonly clock: Clock;
  readonly log: Pick<Logger, 'warn'>;
  /** Why the last drop took records of the topic from cursors that it passed. */
  readonly gapReason: (topicId: number) => GapReason;
  readonly onFenced: () => void;
}

/** A cursor that has jumped over so many records that were not acked. */
interface Landed {
  readonly feed: Feed;
  readonly records: number;
}

/**
 * Lets cursors jump to the start of their logs, after retention has dropped the records below.
 *
 *  1. The gap is durable before the cursor jumps. A crash in between costs nothing, because the
 *     cursor that is loaded lies below the start again.
 *  2. The gap begins at the lowest record that is not acked, as memory knows it. A fold may be a
 *     minute behind. It ends before the next one that is not acked, so that the cursor stands right
 *     behind it.
 *  3. No record of the cursor is MOVING when it jumps.
 *  4. A gap closes when a member has got it and the group has acked a record behind it. The next
 *     owner tells it too, unless that is durable by then.
 *  5. Until the jump nothing of the log goes out. Acks go on, and may take the cursor past the
 *     start, which then loses nothing.
 */
export class Jumps {
  readonly #d: JumpsDeps;
  /** The records that the jumps have taken from groups. */
  lostRecords = 0;
  /** Those that wait for their piece. */
  readonly #next = new Set<Feed>();
  /** Those of a piece that has begun. */
  readonly #jumping = new Set<Feed>();
  #waiting: (() => void)[] = [];
  readonly #cancels = new Set<() => void>();
  /** Closed gaps that the database has as open, by the names of their cursors. */
  readonly #told = new Map<string, ToldGap>();
  #telling = false;
  #asked = false;
  #stopped = false;

  constructor(deps: JumpsDeps) {
    this.#d = deps;
  }

  /** Makes the cursor jump, which lies below the start of its log. */
  begin(feed: Feed): void {
    if (this.#stopped || this.#jumping.has(feed)) return;
    this.#next.add(feed);
    if (this.#asked) return;
    this.#asked = true;
    this.#d.clock.soon(() => {
      this.#asked = false;
      this.#startAll();
    });
  }

  /**
   * A member has got the gap, and the group has acked a record behind it. If the write fails the
   * next owner tells the gap once more.
   */
  told({ key }: Feed, { last }: LogGap): void {
    this.#told.set(cursorName(key), { key, last });
    if (!this.#telling) void this.#tell();
  }

  async #tell(): Promise<void> {
    this.#telling = true;
    while (this.#told.size > 0 && !this.#stopped) {
      const told = [...this.#told.values()].slice(0, togetherMax);
      for (const { key } of told) this.#told.delete(cursorName(key));
      try {
        await this.#d.store.tellGaps(told);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        if (error.kind === 'FENCED' && !this.#stopped) this.#d.onFenced();
      }
    }
    this.#telling = false;
  }

  /** Resolves when none of the cursors lies below the start of its log any more. */
  async ended(feeds: readonly Feed[]): Promise<void> {
    while (!this.#stopped && feeds.some(mustJump)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Ends all waits. The next owner finds the cursors below the start. */
  stop(): void {
    this.#stopped = true;
    this.#next.clear();
    for (const cancel of this.#cancels) cancel();
    this.#cancels.clear();
    this.#wake();
  }

  #startAll(): void {
    const all = [...this.#next];
    this.#next.clear();
    for (let at = 0; at < all.length; at += togetherMax) {
      const piece = all.slice(at, at + togetherMax);
      for (const feed of piece) this.#jumping.add(feed);
      void this.#run(piece);
    }
  }

  async #run(piece: readonly Feed[]): Promise<void> {
    let failed = false;
    try {
      await this.#d.moves.whileStill(piece, () => this.#jump(piece.filter(mustJump)));
    } catch (error) {
      // The wait for MOVING records ends with the broker.
      if (this.#stopped && error instanceof Rejection) return;
      if (!(error instanceof Fault)) throw error;
      failed = true;
      if (error.kind === 'FENCED' && !this.#stopped) this.#d.onFenced();
    }
    if (this.#stopped) return;
    for (const feed of piece) this.#jumping.delete(feed);
    // The start may have moved on meanwhile.
    const left = piece.filter(mustJump);
    if (failed) this.#retry(left);
    else for (const feed of left) this.begin(feed);
    this.#wake();
  }

  async #jump(feeds: readonly Feed[]): Promise<void> {
    if (feeds.length === 0) return;
    const jumps = feeds.map((feed) => this.#planned(feed));
    await this.#d.store.saveGaps(jumps);
    if (this.#stopped) return;
    const landed = feeds.flatMap((feed, at) => this.#land(feed, present(jumps[at], 'each cursor has a plan')) ?? []);
    this.#say(landed);
  }

  #planned({ key, cursor, log }: Feed): CursorJump {
    const reason = this.#d.gapReason(log.address.topicId);
    const last = firstUnacked(cursor, log.startOffset) - 1;
    return { key, resets: cursor.resets, gap: { first: cursor.committedOffset, last, reason } };
  }

  /**
   * A reset meanwhile has begun another incarnation, which has no gap. Acks meanwhile may have
   * passed some of the records, which are not lost then, or moved the end of the gap, which is
   * stored again. @returns null without a jump.
   */
  #land(feed: Feed, { resets, gap }: CursorJump): Landed | null {
    const { cursor, isClosed } = feed;
    if (isClosed || cursor.resets !== resets || cursor.committedOffset > gap.last) return null;
    if (firstUnacked(cursor, gap.last + 1) > gap.last + 1) return null;
    const records = feed.jump(gap);
    this.#d.rounds.mark(feed);
    this.lostRecords += records;
    return { feed, records };
  }

  /** Warns once for each topic. */
  #say(landed: readonly Landed[]): void {
    for (const [topic, ofTopic] of Map.groupBy(landed, ({ feed }) => feed.topic)) {
      const groups = [...new Set(ofTopic.map(({ feed }) => feed.groupName))];
      const records = ofTopic.reduce((sum, one) => sum + one.records, 0);
      this.#d.log.warn({ topic, groups: groups.slice(0, namedMax), groupCount: groups.length, records }, lostText);
    }
  }

  #retry(feeds: readonly Feed[]): void {
    const cancel = this.#d.clock.after(retryMs, () => {
      this.#cancels.delete(cancel);
      for (const feed of feeds) if (mustJump(feed)) this.begin(feed);
    });
    this.#cancels.add(cancel);
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** The most groups that one warning names. */
const namedMax = 20;
const lostText = 'retention has dropped records that groups were owed; they go on at the start of the log';

/** The lowest offset from `start` on that is not acked. */
function firstUnacked(cursor: Cursor, start: number): number {
  const { acked } = cursor.snapshot();
  const [first = Infinity, last = start] = acked.slice(runFrom(acked, start));
  return first <= start ? last + 1 : start;
}

function mustJump(feed: Feed): boolean {
  return !feed.isClosed && feed.isBelowStart;
}
