import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { GroupContext } from '../groups/context.ts';
import type { AckCommand, AckEntry } from '../ports/acks.ts';

/** What a client says went wrong with records that it refused, as it stands in the log. */
export interface NackLine {
  readonly group: string;
  readonly topic: string;
  readonly partition: number;
  readonly lane: number;
  readonly offsets: string;
  readonly member: string;
  /** Which attempt of the lowest record it was. */
  readonly attempt: number;
  readonly error: string;
}

/** Runs of one line; a NACK may have a thousand. */
const runsMax = 10;
/** A group's lines are counted anew after so long. */
const windowMs = 1_000;

/** What the log will tell of a NACK that says why; null: the entry is none. To be asked before the cursor moves. */
export function nackLineOf(command: AckCommand, entry: AckEntry, log: Feed): NackLine | null {
  if (entry.action !== 'NACK' || entry.error === '') return null;
  const { committedOffset } = log.cursor;
  const runs = entry.upToOffset === null ? (entry.runs ?? []) : [committedOffset, entry.upToOffset];
  return {
    group: command.group,
    topic: log.topic,
    partition: log.key.partition,
    lane: log.key.lane,
    offsets: textOf(runs),
    member: command.memberId,
    attempt: log.cursor.attemptOf(Math.max(runs[0] ?? 0, committedOffset)),
    error: printable(entry.error),
  };
}

interface NackLogDeps {
  readonly clock: Clock;
  readonly log: GroupContext['log'];
}

/** Writes what clients say of their NACKs, a few lines a second for each group, and how many were left out. */
export class NackLog {
  readonly #d: NackLogDeps;
  /** The groups that have written a line within the last second. */
  readonly #windows = new Map<string, { lines: number; leftOut: number; readonly cancel: () => void }>();

  constructor(deps: NackLogDeps) {
    this.#d = deps;
  }

  write(line: NackLine): void {
    const { group } = line;
    let window = this.#windows.get(group);
    if (window === undefined) {
      const cancel = this.#d.clock.after(windowMs, () => {
        this.#end(group);
      });
      window = { lines: 0, leftOut: 0, cancel };
      this.#windows.set(group, window);
    }
    if (window.lines < limits.nackLogLinesMax) {
      window.lines++;
      this.#d.log.info(line, 'a member refused records');
    } else window.leftOut++;
  }

  /** Writes what is still to be said. */
  stop(): void {
    for (const [group, { cancel }] of this.#windows) {
      cancel();
      this.#end(group);
    }
  }

  #end(group: string): void {
    const leftOut = this.#windows.get(group)?.leftOut ?? 0;
    this.#windows.delete(group);
    if (leftOut > 0) this.#d.log.info({ group, leftOut }, 'more members refused records than the log takes lines of');
  }
}

function textOf(runs: readonly number[]): string {
  const texts: string[] = [];
  for (let at = 0; at < Math.min(runs.length, runsMax * 2); at += 2) {
    texts.push(runs[at] === runs[at + 1] ? `${runs[at]!}` : `${runs[at]!}-${runs[at + 1]!}`);
  }
  return texts.join(', ') + (runs.length > runsMax * 2 ? ', …' : '');
}

/** The text without control characters: the log may be read on a terminal, which a client must not be able to drive. */
function printable(text: string): string {
  return text
    .slice(0, limits.nackErrorCharsMax)
    .replaceAll(/\p{Cc}+/gu, ' ')
    .trim();
}
