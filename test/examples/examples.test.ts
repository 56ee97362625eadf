import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startBroker } from '../../bench/support/broker-process.ts';
import type { BrokerProcess } from '../../bench/support/broker-process.ts';

const python = '/usr/bin/python3';
const missing = missingForPython();
let broker: BrokerProcess;
let dataDir: string;
const running: ChildProcess[] = [];

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'millrace-examples-'));
  broker = await startBroker({ dataDir });
}, 60_000);

afterAll(async () => {
  await broker?.stop();
  rmSync(dataDir, { recursive: true, force: true });
}, 60_000);

afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

/** What the Python example needs and this machine does not have; null: nothing. */
function missingForPython(): string | null {
  try {
    execFileSync(python, ['-c', 'import grpc, google.protobuf'], { stdio: 'ignore' });
  } catch {
    return 'python3-grpcio is not installed';
  }
  try {
    execFileSync('sh', ['-c', 'command -v protoc && command -v grpc_python_plugin'], { stdio: 'ignore' });
    return null;
  } catch {
    return 'protobuf-compiler-grpc is not installed';
  }
}

/** Runs a program against the broker. @returns what it printed, when it has ended well. */
function run(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, {
    env: { ...process.env, MILLRACE_ADDRESS: broker.grpcAddress, MILLRACE_URL: broker.httpUrl },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${program} ${args.join(' ')}: ${signal ?? code}\n${output}`));
    });
  });
}

function generatePythonStubs(): void {
  const out = 'examples/python/gen';
  mkdirSync(out, { recursive: true });
  const plugin = `--plugin=protoc-gen-grpc_python="$(command -v grpc_python_plugin)"`;
  const protoc = `protoc -I proto --python_out=${out} --grpc_python_out=${out} ${plugin} proto/millrace/v1/*.proto`;
  execFileSync('sh', ['-c', protoc]);
}

/** Ten records of three keys: all there, each key in its order. */
function expectTenOrders(output: string): void {
  expect(output).toMatch(/joined as /);
  expect(output).toMatch(/partitions: 0 1 2 3 4 5/);
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
  it('TypeScript publishes and consumes through generated stubs alone', async () => {
    const published = await run(process.execPath, ['examples/typescript/publish.ts', 'ts-orders', '10']);
    expect(published.match(/published to ts-orders\/\d at \d+/g)).toHaveLength(10);
    expectTenOrders(await run(process.execPath, ['examples/typescript/subscribe.ts', 'ts-orders', 'billing', '10']));
  }, 60_000);

  it('TypeScript over Connect gets back what it published', async () => {
    await run(process.execPath, ['examples/typescript/publish.ts', 'connect-orders', '1']);
    const output = await run(process.execPath, ['examples/typescript/connect.ts', 'connect-orders']);
    expect(output).toMatch(/joined as connect-example.* in generation 1/);
    expect(output).toMatch(/0: (order 0|hello)/);
  }, 60_000);

  if (missing === null) {
    it('Python publishes and consumes through generated stubs alone', async () => {
      generatePythonStubs();
      const published = await run(python, ['examples/python/publish.py', 'py-orders', '10']);
      expect(published.match(/published to py-orders\/\d at \d+/g)).toHaveLength(10);
      expectTenOrders(await run(python, ['examples/python/subscribe.py', 'py-orders', 'billing', '10']));
    }, 60_000);

    it('what Python published TypeScript reads, and the other way round', async () => {
      generatePythonStubs();
      await run(python, ['examples/python/publish.py', 'mixed', '5']);
      await run(process.execPath, ['examples/typescript/publish.ts', 'mixed', '5']);
      for (const [program, script] of [
        [python, 'examples/python/subscribe.py'],
        [process.execPath, 'examples/typescript/subscribe.ts'],
      ] as const) {
        const output = await run(program, [script, 'mixed', `group-of-${script.length}`, '10']);
        expect(output.match(/order \d/g)).toHaveLength(10);
      }
    }, 60_000);
  } else {
    it(`the Python example was not run: ${missing}`, () => {
      expect(missing).not.toBeNull();
    });
  }
});
