import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/left-open/setup.ts'],
    globalSetup: ['test/support/global-database.ts'],
    // Workers are processes: a test that blocks or kills its own must not take others along, and
    // child processes that ask to end with their parent are bound to the thread that made them.
    pool: 'forks',
    // Files share one database server and its disk; more at once only makes their deadlines meet.
    maxWorkers: Math.min(4, availableParallelism()),
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // With --expose-gc tests can measure what is kept.
    execArgv: ['--expose-gc', '--disable-warning=ExperimentalWarning'],
  },
});
