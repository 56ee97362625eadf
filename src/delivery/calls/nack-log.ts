import { limits } from '../../limits/limits.ts';
import type { BackgroundJob } from '../../time/background-job.ts';
import type { Clock } from '../../time/clock.ts';
import type { Logger } from '../../time/logger.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { AckCommand, AckEntry } from '../ports/acks.ts';
import { present } from '../../errors/present.ts';
import { printable } from '../../errors/printable.ts';

/** A line of the broker's log: the error that a client gives in a NACK. */
export interface NackLine {
  readonly group: string;
  readonly topic: string;
  readonly partition: number;
  readonly lane: number;
  readonly offsets: string;
  readonly member: string;
  /** The attempt number of the lowest record. */
  readonly attempt: number;
  readonly error: string;
}

/** A line shows so many runs of a NACK, which may have a thousand. */
const runsMax = 10;
/** The limit of lines of a group holds for so long. */
const windowMs = 1_000;

/** The line of a NACK with an error, or null. Call this before the NACK moves the cursor. */
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
    error: printable(entry.error.slice(0, limits.nackErrorCharsMax)).trim(),
  };
}

interface NackLogDeps {
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Logs the errors of NACKs: a few lines a second for each group, and the number of lines left out.
 */
export class NackLog implements BackgroundJob {
  readonly #d: NackLogDeps;
  /** The groups that have written a line within the last second. */
  readonly #windows = new Map<string, { lines: number; leftOut: number; readonly cancel: () => void }>();

  #stopped = true;

  constructor(deps: NackLogDeps) {
    this.#d = deps;
  }

  write(line: NackLine): void {
    if (this.#stopped) return;
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

  start(): void {
    this.#stopped = false;
  }

  /** Writes the numbers of lines left out so far. Later NACKs are not logged. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const [group, { cancel }] of this.#windows) {
      cancel();
      this.#end(group);
    }
  }

  #end(group: string): void {
    const leftOut = this.#windows.get(group)?.leftOut ?? 0;
    this.#windows.delete(group);
    if (leftOut > 0) this.#d.log.info({ group, leftOut }, 'left out further lines about refused records');
  }
}

const inPairs = 'runs are pairs of a first and a last offset';

function textOf(runs: readonly number[]): string {
  const texts: string[] = [];
  for (let at = 0; at < Math.min(runs.length, runsMax * 2); at += 2) {
    const [first, last] = [present(runs[at], inPairs), present(runs[at + 1], inPairs)];
    texts.push(first === last ? `${first}` : `${first}-${last}`);
  }
  return texts.join(', ') + (runs.length > runsMax * 2 ? ', …' : '');
}
