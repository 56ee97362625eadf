import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startBroker } from '../../bench/support/broker-process.ts';
import type { BrokerProcess } from '../../bench/support/broker-process.ts';
import { codeBlocks, inlineCode, shellCommands } from '../support/markdown.ts';
import { Command, runToEnd } from './commands.ts';
import { isAsShown, jsonValues } from './shown-output.ts';

/** Does what the README says, in its order, in one story: what a newcomer would do. */

const root = new URL('../../', import.meta.url).pathname;
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const hasCurl = spawnSync('curl', ['--version']).status === 0;
const waitMsMax = 15_000;

/** Commands that are run by others, and the text by which one sees that they are. */
const runElsewhere: readonly { readonly command: RegExp; readonly by: string; readonly text: string }[] = [
  { command: /^npm ci( && npm test)?$/, by: '.ci/run', text: "step 'npm ci' npm ci" },
  { command: /^npm ci && npm start$|^npm start( -- --help)?$/, by: 'test/readme/readme.test.ts', text: 'npm start --' },
  { command: /^npm run package$/, by: '.ci/run', text: 'npm run --silent package' },
  { command: /^npx millrace start$/, by: 'test/package/package.test.ts', text: "'npx', 'millrace'" },
  { command: /^npm run demo( -- --limit \d+)?$/, by: 'test/demo/demo.test.ts', text: 'bench/demo/main.ts' },
  {
    command:
      /^npm run bench -- (append|fanout|latency|held|peer|restart|coordinator|all|NAME)( --[a-z]+( ('[^']+'|\S+))?)*$/,
    by: '.ci/run',
    text: 'npm run --silent bench -- all --size smoke',
  },
];

let directory: string;
let broker: BrokerProcess;
/** What a newcomer has running in the second terminal. */
let stream: Command | null = null;
const others: Command[] = [];
const done = new Set<string>();

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-readme-'));
  broker = await startBroker({ dataDir: join(directory, 'data') });
});

afterAll(async () => {
  for (const command of [...others, ...(stream === null ? [] : [stream])]) await command.interrupt();
  await broker?.stop();
  rmSync(directory, { recursive: true, force: true });
});

const withPorts = (text: string): string =>
  text.replaceAll(':50051', `:${broker.grpcPort}`).replaceAll(':8080', `:${broker.httpPort}`);

const isEvent = (value: unknown): boolean =>
  ['joined', 'assigned', 'batch'].some((kind) => kind in (value as Record<string, unknown>));

/** The values that a terminal shows; without the idle events, which may come at any time. */
const valuesOf = (command: Command): unknown[] =>
  jsonValues(command.stdout).filter((value) => !('idle' in (value as object)));

/** Subscribes in the second terminal, where the previous stream, if any, is ended by Ctrl-C. */
async function listen(line: string): Promise<void> {
  await stream?.interrupt();
  stream = new Command(line);
  const listening = stream;
  await expect.poll(() => listening.terminal, { timeout: waitMsMax }).toContain('"assigned"');
}

/** Where the README writes `member-…` the reader puts the id that the stream has told. */
function withMember(line: string): string {
  return line.replace(/member-…/, () => /"memberId": "([^"]+)"/.exec(stream?.stdout ?? '')![1]!);
}

async function follow(line: string): Promise<Command | null> {
  done.add(line);
  const real = withMember(withPorts(line));
  if (line.includes('/Subscribe')) {
    await listen(real);
    return null;
  }
  return line.startsWith('curl') && !hasCurl ? null : runToEnd(real);
}

async function expectShown(shown: unknown, last: Command | null): Promise<void> {
  if (isEvent(shown)) {
    const seen = (): boolean => valuesOf(stream!).some((value) => isAsShown(shown, value));
    await expect
      .poll(seen, { timeout: waitMsMax, message: `${JSON.stringify(shown)} in ${stream!.stdout}` })
      .toBe(true);
  } else if (last !== null) {
    const seen = valuesOf(last).some((value) => isAsShown(shown, value));
    expect(seen, `${last.line}\nshows, other than the README:\n${last.terminal}`).toBe(true);
  }
}

test('what the README says to type works, and shows what it says', async () => {
  let last: Command | null = null;
  let compared = 0;
  for (const { language, text } of codeBlocks(readme)) {
    if (language === 'sh') {
      for (const line of shellCommands(text)) if (/^(npx|curl) /.test(line)) last = await follow(line);
    } else if (language === 'json') {
      for (const shown of jsonValues(text)) {
        await expectShown(shown, last);
        compared++;
      }
    }
  }
  expect(compared).toBeGreaterThanOrEqual(6);
}, 120_000);

test('no command of the README is left that nothing runs', () => {
  const blocks = codeBlocks(readme).filter(({ language }) => language === 'sh' || language === '');
  const inBlocks = blocks.flatMap(({ language, text }) => (language === 'sh' ? shellCommands(text) : []));
  const inText = inlineCode(readme).filter((code) => /^(npm|npx|curl|node|docker|psql|git) /.test(code));
  const runHere = (command: string): boolean => done.has(command);
  const runThere = (command: string): boolean =>
    runElsewhere.some(
      ({ command: pattern, by, text }) => pattern.test(command) && readFileSync(join(root, by), 'utf8').includes(text),
    );
  expect([...inBlocks, ...inText].filter((command) => !runHere(command) && !runThere(command))).toEqual([]);
});

test('the README has all the ways to call: buf curl over gRPC and Connect, curl with JSON', () => {
  const commands = [...done];
  const over = (port: string, client: RegExp): string[] =>
    commands
      .filter((command) => client.test(command) && command.includes(port))
      .map((command) => /(\w+)$/.exec(command)![1]!);
  expect(over(':50051', /^npx buf curl/)).toEqual(
    expect.arrayContaining(['CreateTopic', 'Subscribe', 'Publish', 'Ack']),
  );
  expect(commands.some((command) => command.includes('--list-methods'))).toBe(true);
  expect(over(':8080', /^npx buf curl/)).not.toEqual([]);
  expect(over(':8080', /^curl/)).toEqual(['Publish', 'Pull']);
});

if (!hasCurl) {
  test('the curl commands of the README were not run: curl is not installed', () => {
    expect(hasCurl).toBe(false);
  });
}

test('the SQL of the README finds what was published, with the connection string that the broker prints', async () => {
  const [query] = inlineCode(readme).filter((code) => code.startsWith('SELECT '));
  const client = new pg.Client(/postgresql:\S+/.exec(broker.output())![0]);
  await client.connect();
  try {
    const { rows } = await client.query<{ key: unknown }>(query!);
    expect(rows.map(({ key }) => String(key))).toContain('k1');
  } finally {
    await client.end();
  }
});

test('the program of the README consumes what was published', async () => {
  const program = codeBlocks(readme).find(({ language }) => language === 'ts')!.text;
  for (const name of ['gen', 'node_modules']) symlinkSync(join(root, name), join(directory, name));
  const file = join(directory, 'consumer.ts');
  writeFileSync(file, withPorts(program));
  const consumer = new Command(`exec ${process.execPath} ${file}`);
  others.push(consumer);
  await expect.poll(() => consumer.terminal, { timeout: waitMsMax }).toContain('k1 hello');
  const committed = async (): Promise<string> =>
    (
      await runToEnd(
        withPorts(`npx buf curl -d '{"group": "invoices"}' http://127.0.0.1:8080/millrace.v1.GroupService/GetGroup`),
      )
    ).stdout;
  await expect.poll(committed, { timeout: waitMsMax }).toMatch(/"committedOffset": "[1-9]/);
});

test('what npm start says to type next works as well', async () => {
  const start = new Command(`npm start -- --data-dir ${directory}/second --grpc-port 0 --http-port 0`);
  others.push(start);
  await expect.poll(() => start.terminal, { timeout: 60_000 }).toContain('Ctrl-C stops it');
  const greeting = start.stdout.slice(start.stdout.indexOf('To try it'), start.stdout.indexOf('Ctrl-C stops it'));
  const commands = shellCommands(greeting).filter((line) => line.startsWith('npx '));
  expect(commands).toHaveLength(3);
  for (const line of commands) await (line.includes('/Subscribe') ? listen(line) : runToEnd(line));
  await expect.poll(() => stream!.stdout, { timeout: waitMsMax }).toContain('"aGVsbG8="');
  await start.interrupt();
  // PostgreSQL removes it at the end of an orderly stop.
  expect(existsSync(`${directory}/second/postmaster.pid`)).toBe(false);
}, 120_000);

test('npm start -- --help lists the settings', async () => {
  expect((await runToEnd('npm start -- --help')).stdout).toContain('--database-url');
});
