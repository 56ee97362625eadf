import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files that take longest, so that no worker begins one of them when the others have ended. */
const longest = [
  'hostile/event-loop/',
  'conformance/postgres.',
  'simulation/seeds-',
  'broker/retention/cleanup.',
  'demo/demo.',
  'hostile/fill/',
  'hostile/fuzz.',
  'examples/examples.',
  'broker/process/embedded-start.',
  'failure/takeovers/',
  'package/package.',
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = longest.findIndex((part) => moduleId.includes(`/test/${part}`));
      return at < 0 ? longest.length : at;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/left-open/setup.ts'],
    globalSetup: ['test/support/global-database.ts'],
    // Workers are processes: a test that blocks or kills its own must not take others along, and
    // child processes that ask to end with their parent are bound to the thread that made them.
    pool: 'forks',
    sequence: { sequencer: LongestFirst },
    // Files share one database server and its disk; more at once only makes their deadlines meet.
    maxWorkers: Math.min(4, availableParallelism()),
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // With --expose-gc tests can measure what is kept.
    execArgv: ['--expose-gc', '--disable-warning=ExperimentalWarning'],
  },
});
