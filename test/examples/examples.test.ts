import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { startBroker } from '../../bench/support/broker-process.ts';
import type { BrokerProcess } from '../../bench/support/broker-process.ts';
import { codeBlocks, shellCommands } from '../support/markdown.ts';
import { run } from './programs.ts';

const root = new URL('../../', import.meta.url).pathname;
/** Debian's packages belong to Debian's Python, whatever other Python comes first in PATH. */
const python = '/usr/bin/python3';
const debianPackages = [
  'python3-grpcio',
  'python3-protobuf',
  'protobuf-compiler',
  'protobuf-compiler-grpc',
  'libprotobuf-dev',
];
const missing = missingForPython();
let broker: BrokerProcess;
let dataDir: string;

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'millrace-examples-'));
  broker = await startBroker({ dataDir });
}, 60_000);

afterAll(async () => {
  await broker?.stop();
  rmSync(dataDir, { recursive: true, force: true });
}, 60_000);

/** What the Python example needs and this machine does not have; null: nothing, and then it must work. */
function missingForPython(): string | null {
  for (const name of debianPackages) {
    const { stdout } = spawnSync('dpkg-query', ['-W', '-f=${db:Status-Status}', name], { encoding: 'utf8' });
    if (stdout !== 'installed') return `${name} is not installed`;
  }
  return null;
}

/** An example in a directory of its own, as a reader who copies it has it, with the stubs that its README's commands make. */
async function copyOf(example: string): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), `millrace-${example}-`));
  onTestFinished(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  cpSync(join(root, 'proto'), join(directory, 'proto'), { recursive: true });
  const notStubs = (source: string): boolean => !source.endsWith('/gen');
  mkdirSync(join(directory, 'examples'));
  cpSync(join(root, 'examples', example), join(directory, 'examples', example), { recursive: true, filter: notStubs });
  for (const command of generatingCommands(example)) {
    if (isInstall(command)) {
      // What it would fetch is here already.
      if (example === 'typescript') symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
    } else await run('sh', ['-c', command], { cwd: directory });
  }
  return directory;
}

/** The commands of the block that makes the stubs. */
function generatingCommands(example: string): string[] {
  const readme = readFileSync(join(root, 'examples', example, 'README.md'), 'utf8');
  const block = codeBlocks(readme).find(({ text }) => /\bprotoc\b|buf generate/.test(text));
  return shellCommands(block!.text);
}

const isInstall = (command: string): boolean => /^(apt-get|npm) install /.test(command);

function installed(example: string): string[] {
  return generatingCommands(example)
    .filter(isInstall)
    .flatMap((command) => command.split(/\s+/))
    .filter((word) => /^(@\w+\/)?[a-z0-9-]+$/.test(word) && !/^(-.*|apt-get|npm|install)$/.test(word));
}

/** The record on which the handlers of the examples fail at its first attempt. */
const failing = 'order 5';

/** Runs a script of an example against the broker. */
function script(program: string, directory: string, ...args: string[]): Promise<string> {
  const env = { MILLRACE_ADDRESS: broker.grpcAddress, MILLRACE_URL: broker.httpUrl, FAIL_ONCE: failing };
  return run(program, args, { cwd: directory, env });
}

const node = (directory: string, ...args: string[]): Promise<string> => script(process.execPath, directory, ...args);

/** Ten records of three keys: all there, each key in its order, also around the one that fails once. */
function expectTenOrders(output: string): void {
  expect(output).toMatch(/joined as /);
  expect(output).toMatch(/partitions: 0 1 2 3 4 5/);
  expect(output.match(/failed: .*order 5.* fails once/g)).toHaveLength(1);
  const again = /\(attempt 2\) customer-2: order 5/.exec(output);
  expect(again).not.toBeNull();
  expect(again!.index).toBeLessThan(output.indexOf('customer-2: order 8'));
  expect(output).not.toContain('ack refused');
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

describe('examples', () => {
  it('TypeScript publishes and consumes through generated stubs alone, and ends when it has enough', async () => {
    const directory = await copyOf('typescript');
    const published = await node(directory, 'examples/typescript/publish.ts', 'ts-orders', '10');
    expect(published.match(/published to ts-orders\/\d at \d+/g)).toHaveLength(10);
    expectTenOrders(await node(directory, 'examples/typescript/subscribe.ts', 'ts-orders', 'billing', '10'));
  }, 60_000);

  it('TypeScript over Connect gets back what it published, acks it, and ends', async () => {
    const first = await node(root, 'examples/typescript/connect.ts', 'connect-orders');
    expect(first).toMatch(/joined as member-\S+ in generation 1\n0: hello\n$/);
    // A second run would get the first record again if that had not been acked.
    expect(await node(root, 'examples/typescript/connect.ts', 'connect-orders')).toMatch(/generation \d+\n1: hello\n$/);
  }, 60_000);

  it('the TypeScript README names what the example imports, and no package that this repository does not have', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, object>;
    const known = Object.keys({ ...manifest['dependencies'], ...manifest['devDependencies'] });
    const named = installed('typescript');
    expect(known).toEqual(expect.arrayContaining(named));
    expect(named).toEqual(expect.arrayContaining(['@bufbuild/protobuf', '@grpc/grpc-js', '@bufbuild/protoc-gen-es']));
  });

  it('the Python README installs what the example needs', () => {
    expect(installed('python').sort()).toEqual(debianPackages.toSorted());
  });

  if (missing === null) {
    it('Python publishes and consumes through generated stubs alone', async () => {
      const directory = await copyOf('python');
      const published = await script(python, directory, 'examples/python/publish.py', 'py-orders', '10');
      expect(published.match(/published to py-orders\/\d at \d+/g)).toHaveLength(10);
      const consumed = await script(python, directory, 'examples/python/subscribe.py', 'py-orders', 'billing', '10');
      expectTenOrders(consumed);
    }, 60_000);

    it('what Python published TypeScript reads, and the other way round', async () => {
      const directory = await copyOf('python');
      await script(python, directory, 'examples/python/publish.py', 'mixed', '5');
      await node(root, 'examples/typescript/publish.ts', 'mixed', '5');
      for (const output of [
        await script(python, directory, 'examples/python/subscribe.py', 'mixed', 'readers-in-python', '10'),
        await node(root, 'examples/typescript/subscribe.ts', 'mixed', 'readers-in-typescript', '10'),
      ]) {
        expect(output.match(/order \d/g)).toHaveLength(10);
      }
    }, 60_000);
  } else {
    it(`the Python example was not run: ${missing}`, () => {
      expect(missing).not.toBeNull();
    });
  }
});
