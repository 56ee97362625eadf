import { readFileSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freePort } from '../../bench/support/free-port.ts';
import { installPackage, Program, runIn } from './installed.ts';
import type { Installation } from './installed.ts';

const root = new URL('../../', import.meta.url).pathname;
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  readonly version: string;
  readonly scripts: { readonly start: string };
};
/** Compiling takes 10 s of CPU and installing as much again; other tests run at the same time. */
const installMsMax = 300_000;

let installed: Installation;

beforeAll(async () => {
  installed = await installPackage();
}, installMsMax);

afterAll(() => {
  installed?.remove();
});

const npx = (...args: string[]): Promise<string> => runIn(installed.directory, 'npx', 'millrace', ...args);

/** Starts the broker as a supervisor does, and waits until it serves. */
async function startInstalled(env: Readonly<Record<string, string>> = {}): Promise<{ program: Program; port: number }> {
  const [port, httpPort] = [await freePort(), await freePort()];
  const flags = ['--grpc-port', String(port), '--http-port', String(httpPort), '--data-dir', 'data'];
  const program = new Program(['node_modules/.bin/millrace', 'start', ...flags], installed.directory, env);
  await expect.poll(() => program.output, { timeout: 60_000 }).toContain('this broker owns the database and serves');
  return { program, port };
}

async function stop(program: Program): Promise<unknown> {
  program.process.kill('SIGTERM');
  return program.ended;
}

const below = (folder: string, kind: RegExp): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => kind.test(path))
    .map((path) => join(folder, path));

test('the package has the compiled broker with all that it reads, the stubs with their types, and no source to strip', () => {
  const compiled = below('src', /\.ts$/)
    .filter((path) => path !== 'src/config/document.ts')
    .map((path) => path.replace(/^src(.*)\.ts$/, 'dist$1.js'));
  const needed = [
    'bin/millrace',
    ...compiled,
    ...below('drizzle', /\.sql$/),
    ...below('gen', /\.(js|d\.ts)$/),
    ...below('proto', /\.proto$/),
    ...below('src/rpc/proto/google', /\.proto$/),
  ];
  expect(needed.filter((path) => !installed.files.includes(path))).toEqual([]);
  const folders = new Set(installed.files.map((path) => path.split('/')[0]));
  const wanted = ['CHANGELOG.md', 'README.md', 'bin', 'dist', 'docs', 'drizzle', 'gen', 'package.json', 'proto', 'src'];
  expect([...folders].sort()).toEqual(wanted);
  expect(installed.files.filter((path) => /(?<!\.d)\.ts$/.test(path))).toEqual([]);
});

test('the package does not bring a Node along: the machine has one', () => {
  const packages = readdirSync(join(installed.directory, 'node_modules'));
  expect(packages).toContain('millrace');
  expect(packages.filter((name) => /^node(-|$)|^millrace-/.test(name))).toEqual([]);
});

test('npx millrace says its version and its settings, and how it is used to one who gives no command', async () => {
  expect(await npx('--version')).toBe(`millrace ${manifest.version}\n`);
  expect(await npx('--help')).toContain('--database-url');
  expect(await npx('start', '--help')).toBe(await npx('--help'));
  await expect(npx()).rejects.toThrow('usage: millrace start [settings]');
  await expect(npx('start', '--no-such-flag')).rejects.toThrow('--no-such-flag is not a setting');
}, 60_000);

const client = `
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { ErrorInfoSchema } from 'millrace/gen/google/rpc/error_details_pb.js';
import { BrokerService } from 'millrace/gen/millrace/v1/broker_pb.js';
import type { PublishResult } from 'millrace/gen/millrace/v1/broker_pb.js';
import { TopicService } from 'millrace/gen/millrace/v1/topic_pb.js';

const transport = createGrpcTransport({ baseUrl: 'http://127.0.0.1:' + process.argv[2]! });
const topics = createClient(TopicService, transport);
const topic = { name: 'orders', partitions: 1 };
await topics.createTopic({ topic });
const again: unknown = await topics.createTopic({ topic }).catch((error: unknown) => error);
console.log(Code[ConnectError.from(again).code], ConnectError.from(again).findDetails(ErrorInfoSchema)[0]?.reason);
const { results } = await createClient(BrokerService, transport).publish({
  topic: 'orders',
  records: [{ key: 'k1', value: new TextEncoder().encode('hello') }],
});
const [first]: PublishResult[] = results;
console.log('published to partition', first!.partition, 'at offset', first!.offset);
`;

test('a client in TypeScript takes its stubs from the package, with types, and publishes a record through its broker', async () => {
  const { directory } = installed;
  writeFileSync(join(directory, 'client.mts'), client);
  const typed = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024', '--types', 'node'];
  const nodeTypes = ['--typeRoots', join(root, 'node_modules/@types')];
  await runIn(
    directory,
    process.execPath,
    join(root, 'node_modules/typescript/bin/tsc'),
    ...typed,
    ...nodeTypes,
    'client.mts',
  );
  const { program, port } = await startInstalled();
  expect(await runIn(directory, process.execPath, 'client.mts', String(port))).toBe(
    'AlreadyExists TOPIC_EXISTS\npublished to partition 0 at offset 0n\n',
  );
  expect(await stop(program)).toEqual({ code: 0, signal: null });
}, 180_000);

test('the command is the broker itself: it has the flags of npm start, a signal drains it, and its exit code comes back', async () => {
  const { program } = await startInstalled({ HEAP_MIB: '300' });
  const { pid } = program.process;
  expect(readlinkSync(`/proc/${pid}/exe`)).toMatch(/node$/);
  const flags = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(1);
  const started = manifest.scripts.start.replace('${HEAP_MIB:-256}', '300').split(' ');
  const expected = started.filter((word) => word.startsWith('--'));
  expect(flags.slice(0, expected.length)).toEqual(expected);
  expect(flags[expected.length]).toMatch(/\/dist\/main\.js$/);
  expect(await stop(program)).toEqual({ code: 0, signal: null });
  expect(program.output).toContain('SIGTERM: draining');
}, 120_000);
