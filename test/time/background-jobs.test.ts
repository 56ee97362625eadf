import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { seededRandom } from '../../bench/support/random.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { endedForGood, jobs, jobsWithoutRuns } from './jobs.ts';

const root = new URL('../../', import.meta.url).pathname;
/** Longer than the interval of any job. */
const longestIntervalMs = 60_000;

/**
 * Counts the runs of one job, each of which takes a while, and records those that break the
 * contract.
 */
class Runs {
  readonly faults: string[] = [];
  count = 0;
  underWay = 0;
  /** Every `stop` so far has resolved, and no `start` has come since. */
  atRest = true;
  readonly #clock: FakeClock;
  readonly #random: () => number;

  constructor(clock: FakeClock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  async run(): Promise<void> {
    this.count++;
    if (this.atRest) this.faults.push('a run began after a stop');
    if (++this.underWay > 1) this.faults.push('two runs at once');
    await new Promise<void>((resolve) => this.#clock.after(this.#random() * longestIntervalMs, resolve));
    if (this.atRest) this.faults.push('a run went on after a stop');
    this.underWay--;
    if (this.#random() < 0.2) throw new Fault('DATABASE_UNAVAILABLE', 'a run fails now and then');
  }
}

test.each(Object.keys(jobs))(
  '%s, started and stopped a thousand times in any order, never overlaps, and leaves no timer and no run after a stop',
  async (name) => {
    const clock = new FakeClock();
    const random = seededRandom(Object.keys(jobs).indexOf(name));
    const runs = new Runs(clock, random);
    const job = jobs[name]!(clock, () => runs.run());
    let calls = 0;
    const stops: Promise<void>[] = [];
    for (let i = 0; i < 1_000; i++) {
      calls++;
      if (random() < 0.5) {
        runs.atRest = false;
        const started = job.start();
        if (random() < 0.5) await started;
      } else {
        const call = calls;
        const stopped = job.stop().then(() => {
          if (call === calls) runs.atRest = true;
        });
        stops.push(stopped);
      }
      if (random() < 0.5) await clock.advance(random() * longestIntervalMs);
    }
    stops.push(job.stop());
    await clock.advance(2 * longestIntervalMs);
    await Promise.all(stops);
    runs.atRest = true;
    expect(clock.pending).toBe(0);
    const { count } = runs;
    await clock.advance(10 * longestIntervalMs);
    expect([runs.count, runs.underWay, runs.faults]).toEqual([count, 0, []]);
    if (jobsWithoutRuns.includes(name)) expect(count).toBe(0);
    else expect(count).toBeGreaterThan(20);
  },
  60_000,
);

/** The classes of src that are started and stopped: `stop`, and `start` or `open`, are methods. */
function startedClasses(): string[] {
  return globSync('src/**/*.ts', { cwd: root }).flatMap((path) => {
    const found: string[] = [];
    const visit = (node: ts.Node): void => {
      if (ts.isClassDeclaration(node) && node.name !== undefined) {
        const methods = new Set(node.members.filter(isOwnMethod).map((method) => method.name.getText()));
        if (methods.has('stop') && (methods.has('start') || methods.has('open'))) found.push(node.name.text);
      }
      ts.forEachChild(node, visit);
    };
    visit(ts.createSourceFile(path, readFileSync(join(root, path), 'utf8'), ts.ScriptTarget.Latest, true));
    return found;
  });
}

function isOwnMethod(member: ts.ClassElement): member is ts.MethodDeclaration {
  const isStatic = ts.getCombinedModifierFlags(member) & ts.ModifierFlags.Static;
  return ts.isMethodDeclaration(member) && isStatic === 0;
}

test('no class that is started and stopped is left out of the stress', () => {
  expect(startedClasses().sort()).toEqual([...Object.keys(jobs), ...Object.keys(endedForGood)].sort());
  for (const folder of Object.values(endedForGood)) expect(existsSync(join(root, folder)), folder).toBe(true);
});
