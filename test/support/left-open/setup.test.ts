import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly message: string;
    readonly assertionResults: readonly { readonly title: string; readonly failureMessages: readonly string[] }[];
  }[];
}

const samples = fileURLToPath(new URL('samples', import.meta.url));
const vitest = fileURLToPath(new URL('../../../node_modules/vitest/vitest.mjs', import.meta.url));

/** Runs the files of samples/ with the set-up of this run. @returns the failures of each. */
async function failuresOfSamples(): Promise<Record<string, string>> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-left-open-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const report = join(directory, 'report.json');
  const args = [vitest, 'run', '--root', samples, '--reporter', 'json', '--outputFile', report];
  // Its exit code is 1, because some of its tests fail.
  await promisify(execFile)(process.execPath, args).catch(() => undefined);
  const { testResults } = JSON.parse(await readFile(report, 'utf8')) as Report;
  const failures = testResults.flatMap(({ name, message, assertionResults }) => [
    [basename(name), message] as const,
    ...assertionResults.map(({ title, failureMessages }) => [title, failureMessages.join('\n')] as const),
  ]);
  return Object.fromEntries(failures.filter(([, message]) => message !== ''));
}

test('a test or a file that leaves something open fails, and a fixture that its file ends is no leak', async () => {
  const leftOpen = (file: string): unknown =>
    expect.stringMatching(new RegExp(`left open:\\na timer of 60000 ms, set\\n.*${file.replaceAll('.', '\\.')}:\\d+`));
  expect(await failuresOfSamples()).toEqual({
    'leaves a timer': leftOpen('one-test.sample.ts'),
    'one-test.sample.ts': leftOpen('one-test.sample.ts'),
    'shared-leak.sample.ts': leftOpen('shared-leak.sample.ts'),
  });
});
