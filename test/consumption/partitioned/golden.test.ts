import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { attemptsOf, type Named } from './oracle.ts';
import { CheckedScene, type Command } from './scene.ts';

/**
 * Writes a story that a reviewer should read: each command, its outcome, and the cursor after it.
 * `next` is the run that may go out then. The stories are kept in golden/*.txt.
 * `UPDATE_GOLDEN=1 npm test` writes them again; read the difference before you commit it.
 */
class Story {
  readonly #scene = new CheckedScene();
  #text: string;

  constructor(title: string) {
    this.#text = `${title}\nBounds: 12 records in flight, 3 runs acked ahead.\n`;
  }

  do(...commands: Command[]): this {
    for (const command of commands) this.#tell(command);
    return this;
  }

  text(): string {
    return this.#text;
  }

  #tell(command: Command): void {
    const scene = this.#scene;
    const before = scene.next();
    const said = scene.do(command);
    this.#text += `\n${scene.nowMs} ms: ${describe(command)}\n`;
    if (command.type === 'deliver') this.#line(`-> ${this.#delivered(before, command.most)}`);
    if (command.type === 'round') this.#line(`-> written ${JSON.stringify(scene.deltas.at(-1) ?? null, unlessUsual)}`);
    if (said !== null && said !== undefined) this.#line(`-> ${words(said)}`);
    this.#line(this.#state());
  }

  #delivered(before: ReturnType<CheckedScene['next']>, most: number): string {
    if (before.type === 'blocked') return `nothing, blocked on ${before.on}`;
    const last = Math.min(before.last, before.first + most - 1);
    return `${before.first}..${last} as attempt ${this.#scene.cursor.attemptOf(before.first)}`;
  }

  #state(): string {
    const { cursor, endOffset } = this.#scene;
    const { committedOffset, acked, attempts } = cursor.snapshot();
    const next = this.#scene.next();
    const until = next.type === 'blocked' && next.untilMs !== undefined ? ` until ${next.untilMs} ms` : '';
    return [
      `committed ${committedOffset}`,
      ...(cursor.metadata === '' ? [] : [`noted "${cursor.metadata}"`]),
      ...(acked.length > 0 ? [`acked ahead ${pairs(acked, '..')}`] : []),
      ...(attempts.length > 0
        ? [`ended attempts ${[...attemptsOf(attempts)].map((pair) => pair.join(':')).join(' ')}`]
        : []),
      `in flight ${cursor.inFlightRecords}`,
      `lag ${cursor.lag(endOffset)}`,
      `next ${next.type === 'deliver' ? `${next.first}..${next.last}` : `${next.on}${until}`}`,
    ].join(', ');
  }

  #line(text: string): void {
    this.#text += `  ${text}\n`;
  }
}

/** Leaves out what most deltas do not have: a reset and a note. */
function unlessUsual(key: string, value: unknown): unknown {
  return (key === 'resets' && value === 0) || (key === 'metadata' && value === null) ? undefined : value;
}

function pairs(numbers: readonly number[], between: string): string {
  return numbers.flatMap((n, at) => (at % 2 === 0 ? [`${n}${between}${numbers[at + 1]}`] : [])).join(' ');
}

function words(said: unknown): string {
  const { status, records, bytes } = said as { status?: string; records: number; bytes: number };
  return [...(status === undefined ? [] : [status]), `${records} records`, `${bytes} bytes`].join(', ');
}

function describe(command: Command): string {
  switch (command.type) {
    case 'deliver':
      return `deliver at most ${command.most}${command.leaseMs === null ? '' : ` with a lease of ${command.leaseMs} ms`}`;
    case 'ack':
    case 'release':
      return `${command.type} ${describeNamed(command.named)}`;
    case 'nack':
      return `nack ${describeNamed(command.named)}${command.delayMs === null ? '' : ` for ${command.delayMs} ms`}`;
    case 'giveBackAll':
      return command.countAttempt ? 'the holder is lost' : 'the holder gives the log back';
    case 'append':
      return `${command.records} records are appended`;
    case 'pass':
      return 'time passes';
    case 'expire':
      return 'expired leases come back';
    case 'resend':
      return 'the holder resumes with a new stream';
    case 'advance':
      return `without a holder, ${command.offset} is committed`;
    case 'annotate':
      return `"${command.text}" is noted`;
    case 'reset':
      return `the log is taken back and reset to ${command.offset}`;
    case 'takeover':
      return 'another broker takes over';
    case 'move':
      return `a settlement takes ${pairs(command.runs, '..')}`;
    case 'commit':
      return 'the settlement commits, and its answer is lost';
    case 'moved':
      return 'the settlement is known to be durable';
    case 'stays':
      return 'the settlement has failed';
    case 'round':
    case 'fold':
      return command.type;
  }
}

function describeNamed(named: Named): string {
  return 'upTo' in named ? `up to ${named.upTo}` : pairs(named.runs, '..');
}

const deliver = (most = 100, leaseMs: number | null = null): Command => ({ type: 'deliver', most, leaseMs });
const ack = (...runs: number[]): Command => ({ type: 'ack', named: { runs } });
const ackUpTo = (upTo: number): Command => ({ type: 'ack', named: { upTo } });
const nack = (offset: number, delayMs: number | null = null): Command => ({
  type: 'nack',
  named: { runs: [offset, offset] },
  delayMs,
});
const release = (offset: number): Command => ({ type: 'release', named: { runs: [offset, offset] } });
const append = (records: number): Command => ({ type: 'append', records });
const pass = (ms: number): Command => ({ type: 'pass', ms });
const lost: Command = { type: 'giveBackAll', countAttempt: true };

const reset = (offset: number): Command => ({ type: 'reset', offset });
const round: Command = { type: 'round' };
const move = (...runs: number[]): Command => ({ type: 'move', runs });
const moved: Command = { type: 'moved' };

const stories: Record<string, () => Story> = {
  poison: () =>
    new Story('A record kills each member that gets it: from attempt 3 on, it and its neighbours go one by one.')
      .do(append(6), deliver(), ackUpTo(0), lost, deliver(), lost)
      .do(deliver(), ackUpTo(1), deliver(), deliver(), lost, deliver(), ackUpTo(2), { type: 'round' }),
  'nack-rewind': () =>
    new Story('The holder NACKs a record: the log waits and starts again there, and waits longer the next time.')
      .do(append(8), deliver(4), deliver(4), nack(2), ackUpTo(1), ack(6, 6), pass(999), deliver(), pass(1), deliver())
      .do(nack(2), pass(2_000), deliver(), nack(9), ack(2, 2), ackUpTo(5), ackUpTo(7), { type: 'round' }),
  refused: () =>
    new Story('A cumulative ack is on its way while the holder refuses a record, and while that record goes out again.')
      .do(append(6), deliver(3), nack(0, 2_000), ackUpTo(2), pass(2_000), deliver(), ackUpTo(2), ack(0, 0), ackUpTo(2))
      .do(release(3), nack(4), ackUpTo(3), deliver(), ack(3, 3), ackUpTo(5), { type: 'resend' }, deliver(), ackUpTo(5))
      .do({ type: 'giveBackAll', countAttempt: false }, deliver(), ackUpTo(5), round),
  'out-of-order': () =>
    new Story('Acks come in any order: the committed offset follows when the hole closes.')
      .do(append(10), deliver(5), deliver(5), ack(5, 9), { type: 'round' }, ack(1, 1, 3, 3), ack(3, 3), {
        type: 'round',
      })
      .do(ack(0, 0), ack(4, 4), ack(8, 12), { type: 'round' }, ackUpTo(2), { type: 'round' }),
  window: () =>
    new Story('Too much in flight, then too many holes: nothing new goes out until some of it is acked.')
      .do(append(20), deliver(), deliver(), ack(1, 1, 3, 3, 5, 5), deliver(), ack(0, 0), deliver())
      .do(ack(7, 7), { type: 'release', named: { runs: [2, 2] } }, deliver(1), deliver(1), ack(2, 2, 4, 4)),
  leases: () =>
    new Story('Pulled records come again when their lease expires, and a late ack that names them still counts.')
      .do(append(6), deliver(2, 10), pass(5), deliver(2, 10), pass(5), { type: 'expire' }, deliver(1), ackUpTo(1))
      .do(ack(0, 1), ackUpTo(1))
      .do(pass(5), { type: 'expire' }, { type: 'release', named: { upTo: 3 } }, ackUpTo(3), ack(2, 3)),
  takeover: () =>
    new Story('A broker dies between two rounds: acks that no round has written are lost, and nothing else is.')
      .do(append(8), deliver(), ackUpTo(1), ack(4, 5), nack(6, 0), { type: 'fold' }, { type: 'round' })
      .do(ack(2, 2), { type: 'takeover' }, deliver(), deliver(), ackUpTo(3)),
  reset: () =>
    new Story(
      'A log is reset, back and ahead: attempts and notes are gone, and what was written before does not count.',
    )
      .do(append(8), deliver(4), nack(2, 0), ackUpTo(1), ack(3, 3), { type: 'annotate', text: 'two are done' }, round)
      .do(
        deliver(2),
        nack(2, 60_000),
        reset(1),
        { type: 'takeover' },
        deliver(2),
        ackUpTo(2),
        round,
        reset(6),
        deliver(1),
        ackUpTo(6),
      )
      .do({ type: 'annotate', text: 'again' }, round, { type: 'giveBackAll', countAttempt: false })
      .do({ type: 'advance', offset: 3 }, { type: 'advance', offset: 8 }, round, { type: 'takeover' }),
  moving: () =>
    new Story(
      'Nothing passes a record that a settlement completes. One fails, one succeeds, one commits as the broker dies.',
    )
      .do(append(8), deliver(2, 10), deliver(3), move(1, 1), ackUpTo(3), ack(0, 1), nack(1), deliver(1), ack(3, 3))
      .do(pass(10), { type: 'expire' }, deliver(1), { type: 'stays' }, deliver(1), deliver(1), ackUpTo(1), ack(0, 1))
      .do(move(2, 2), lost, deliver(), moved, round, deliver(1), move(4, 4), { type: 'commit' }, { type: 'takeover' })
      .do(deliver()),
  resume: () =>
    new Story(
      'A stream is cut and resumed: it gets everything un-acked again, as the same attempt, and may ack all of it.',
    )
      .do(append(6), deliver(3), deliver(3), ack(4, 4), { type: 'resend' }, ackUpTo(2), deliver(), deliver())
      .do({ type: 'giveBackAll', countAttempt: false }, ackUpTo(3), deliver(1), ackUpTo(3)),
};

test.each(Object.keys(stories))('the golden transcript of %s is still what the cursor does', (name) => {
  const file = new URL(`golden/${name}.txt`, import.meta.url);
  const told = stories[name]?.().text() ?? '';
  if (process.env['UPDATE_GOLDEN'] !== undefined) writeFileSync(file, told);
  expect(told).toBe(readFileSync(file, 'utf8'));
});
