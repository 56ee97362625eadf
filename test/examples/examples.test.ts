import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startBroker } from '../../bench/support/broker-process.ts';
import type { BrokerProcess } from '../../bench/support/broker-process.ts';
import { copyOf, missingPackage, packagesOf, removeCopies } from './copies.ts';
import { run } from './programs.ts';

const root = new URL('../../', import.meta.url).pathname;

interface Language {
  readonly example: string;
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
  /** Its handler fails once on `failing`: it acks by ranges, and NACKs what failed. */
  readonly failsOnce: boolean;
}

/** The record on which handlers fail at its first attempt. */
const failing = 'order 5';

const typeScript = scripts('typescript', process.execPath, 'ts');
/**
 * Languages whose compilers and libraries are Debian's. Its packages belong to its own Python and
 * Ruby, not to others in PATH.
 */
const languages: readonly Language[] = [
  scripts('python', '/usr/bin/python3', 'py'),
  commands('go', ['examples/go/gen/example']),
  scripts('ruby', '/usr/bin/ruby', 'rb'),
  commands('java', ['/usr/bin/java', '@examples/java/debian.args', 'Main']),
];
/**
 * Go compiles gRPC itself, and Java the stubs: up to half a minute each, and more where others
 * compile too.
 */
const buildMsMax = 300_000;

let broker: BrokerProcess;
let dataDir: string;

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'millrace-examples-'));
  broker = await startBroker({ dataDir });
}, 60_000);

afterAll(async () => {
  await broker?.stop();
  removeCopies();
  rmSync(dataDir, { recursive: true, force: true });
}, 60_000);

/** An example of two scripts. */
function scripts(example: string, program: string, extension: string): Language {
  const script = (name: string): string[] => [program, `examples/${example}/${name}.${extension}`];
  return { example, publish: script('publish'), subscribe: script('subscribe'), failsOnce: extension !== 'rb' };
}

/** An example of one program with two commands. */
function commands(example: string, program: readonly string[]): Language {
  return { example, publish: [...program, 'publish'], subscribe: [...program, 'subscribe'], failsOnce: false };
}

/** Runs a program of an example against the broker. */
function start([program, ...first]: readonly string[], directory: string, ...more: string[]): Promise<string> {
  const env = { MILLRACE_ADDRESS: broker.grpcAddress, MILLRACE_URL: broker.httpUrl, FAIL_ONCE: failing };
  return run(program!, [...first, ...more], { cwd: directory, env });
}

/** Where records went: `topic/partition offset`. */
const published = (output: string, topic: string): string[] =>
  Array.from(output.matchAll(/^published to (\S+) at (\d+)$/gm), ([, log, offset]) => `${log} ${offset}`).filter(
    (where) => where.startsWith(`${topic}/`),
  );

/** Where the records that came lay. */
const consumed = (output: string): string[] =>
  Array.from(output.matchAll(/^(\S+\/\d+ \d+) \(attempt 1\) /gm), ([, where]) => where!);

/**
 * Ten records of three keys: all there, each key in its order, also around the one that fails once.
 */
function expectTenOrders(output: string, failsOnce: boolean): void {
  expect(output).toMatch(/joined as /);
  expect(output).toMatch(/partitions: 0 1 2 3 4 5/);
  expect(output).not.toContain('ack refused');
  if (failsOnce) {
    expect(output.match(/failed: .*order 5.* fails once/g)).toHaveLength(1);
    const again = /\(attempt 2\) customer-2: order 5/.exec(output);
    expect(again).not.toBeNull();
    expect(again!.index).toBeLessThan(output.indexOf('customer-2: order 8'));
  }
  const found = [...output.matchAll(/\(attempt 1\) (customer-\d): order (\d+)/g)].map((match) => [
    match[1]!,
    match[2]!,
  ]);
  expect(found.map(([, order]) => Number(order)).sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  for (const customer of ['customer-0', 'customer-1', 'customer-2']) {
    const orders = found.filter(([key]) => key === customer).map(([, order]) => Number(order));
    expect(orders).toEqual(orders.toSorted((a, b) => a - b));
  }
}

/**
 * The story that every example tells: publish, consume, ack, and learn from an error's reason that
 * the topic exists.
 */
async function expectStory({ example, publish, subscribe, failsOnce }: Language): Promise<void> {
  const directory = await copyOf(example);
  const topic = `${example}-orders`;
  const first = await start(publish, directory, topic, '10');
  expect(published(first, topic)).toHaveLength(10);
  expect(first).not.toContain('TOPIC_EXISTS');
  expectTenOrders(await start(subscribe, directory, topic, 'billing', '10'), failsOnce);
  const second = await start(publish, directory, topic, '1');
  expect(second).toContain('TOPIC_EXISTS: publishing to the topic that exists');
  // A group gets again what was not acked, so a record more than the new one would be one of the
  // first ten.
  const rest = await start(subscribe, directory, topic, 'billing', '1');
  expect(rest).not.toContain('ack refused');
  expect(consumed(rest)).toEqual(published(second, topic));
}

describe('examples', () => {
  it(
    'TypeScript publishes, consumes, acks and reads the reason of an error through generated stubs alone, and ends',
    () => expectStory(typeScript),
    60_000,
  );

  it('TypeScript over Connect gets back what it published, acks it, and ends', async () => {
    const connect = [process.execPath, 'examples/typescript/connect.ts'];
    const first = await start(connect, root, 'connect-orders');
    expect(first).toMatch(/joined as member-\S+ in generation 1\n0: hello\n$/);
    // A second run would get the first record again if that had not been acked.
    expect(await start(connect, root, 'connect-orders')).toMatch(/generation \d+\n1: hello\n$/);
  }, 60_000);

  it('the TypeScript README names what the example imports, and no package that this repository does not have', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, object>;
    const known = Object.keys({ ...manifest['dependencies'], ...manifest['devDependencies'] });
    const named = packagesOf('typescript');
    expect(known).toEqual(expect.arrayContaining(named));
    expect(named).toEqual(expect.arrayContaining(['@bufbuild/protobuf', '@grpc/grpc-js', '@bufbuild/protoc-gen-es']));
  });
});

describe.each(languages)('the example in $example', (language) => {
  const { example } = language;
  const missing = missingPackage(example);

  it('CI installs every Debian package that the README installs, and so runs the example', () => {
    const ci = readFileSync(join(root, '.ci/run'), 'utf8').split(/[\s()]+/);
    expect(packagesOf(example)).not.toEqual([]);
    expect(packagesOf(example).filter((name) => !ci.includes(name))).toEqual([]);
  });

  if (missing !== null) {
    it(`was not run: ${missing} is not installed`, () => {
      expect(missing).not.toBeNull();
    });
    return;
  }

  it(
    'publishes, consumes, acks and reads the reason of an error through generated stubs alone, and ends',
    () => expectStory(language),
    buildMsMax,
  );

  it(
    'reads what TypeScript published, and the other way round',
    async () => {
      const directory = await copyOf(example);
      const topic = `${example}-mixed`;
      await start(language.publish, directory, topic, '5');
      await start(typeScript.publish, root, topic, '5');
      for (const output of [
        await start(language.subscribe, directory, topic, 'readers', '10'),
        await start(typeScript.subscribe, root, topic, 'readers-in-typescript', '10'),
      ]) {
        expect(output.match(/order \d/g)).toHaveLength(10);
      }
    },
    buildMsMax,
  );
});
