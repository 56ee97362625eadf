import { spawnSync } from 'node:child_process';
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { call, connect } from '../../../bench/client/service-client.ts';
import { freePort } from '../../../bench/support/free-port.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { entryPoint, oneLine, Start, type StartOptions } from '../start.ts';

const nobody = { uid: 65_534, gid: 65_534 };
/** Where this test runs as root, and the project lies where others may read it. */
const canBeNobody =
  process.getuid?.() === 0 &&
  spawnSync(process.execPath, ['--check', entryPoint], { ...nobody, cwd: '/' }).status === 0;

let directory = '';
const starts: Start[] = [];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-start-'));
});
afterEach(async () => {
  await Promise.all(starts.splice(0).map((each) => each.kill()));
  await rm(directory, { recursive: true, force: true });
});

async function start(
  dataDir: string,
  options: StartOptions = {},
  logLevel = 'error',
): Promise<{ begun: Start; address: string }> {
  const [grpc, http] = [await freePort(), await freePort()];
  const ports = ['--grpc-port', String(grpc), '--http-port', String(http)];
  const begun = new Start([...ports, '--data-dir', dataDir, '--log-level', logLevel], options);
  starts.push(begun);
  return { begun, address: `127.0.0.1:${grpc}` };
}

/** The broker publishes, ends well, and a second start finds what was confirmed. */
async function expectDurable(dataDir: string, options: StartOptions): Promise<void> {
  const first = await start(dataDir, options);
  await first.begun.untilPrinted('Millrace serves', 60_000);
  const client = connect(first.address);
  await call(client, TopicService.method.createTopic, { topic: { name: 'orders', partitions: 1 } });
  await call(client, BrokerService.method.publish, { topic: 'orders', records: [{ key: 'kept' }] });
  client.close();
  first.begun.signal('SIGTERM');
  expect([await first.begun.end(), first.begun.stderr]).toEqual([0, '']);
  const second = await start(dataDir, options);
  await second.begun.untilPrinted('Millrace serves', 60_000);
  const again = connect(second.address);
  const { batches } = await call(again, MessageService.method.readMessages, { topic: 'orders' });
  expect(batches[0]!.records[0]!.record!.key).toBe('kept');
  again.close();
}

test(
  'the broker serves from an empty directory, and after a restart with the same data',
  { timeout: 120_000 },
  async () => {
    await expectDurable(join(directory, 'data'), { cwd: directory });
  },
);

test.runIf(canBeNobody)(
  'the broker serves for an ordinary user who may write only a home and a data directory',
  { timeout: 120_000 },
  async () => {
    await chmod(directory, 0o755);
    const home = join(directory, 'home');
    await mkdir(home, { mode: 0o700 });
    await chown(home, nobody.uid, nobody.gid);
    await expectDurable(join(home, 'data'), { ...nobody, cwd: home, env: { HOME: home } });
  },
);

describe('a data directory that cannot be used ends the start with one line that says why', () => {
  test('the data directory of a running broker is rejected, and that broker goes on', { timeout: 60_000 }, async () => {
    const dataDir = join(directory, 'data');
    const { begun: running, address } = await start(dataDir);
    await running.untilPrinted('Millrace serves', 40_000);
    const line = await oneLine((await start(dataDir)).begun, 1);
    const holder = (await readFile(join(dataDir, 'broker.pid'), 'utf8')).trim();
    expect(line).toContain(`process ${holder}`);
    expect(line).toContain(dataDir);
    expect(line).toContain('--data-dir');
    const client = connect(address);
    await call(client, TopicService.method.createTopic, { topic: { name: 'orders' } });
    client.close();
  });

  test('a data directory below a file is rejected', async () => {
    await writeFile(join(directory, 'file'), '');
    const line = await oneLine((await start(join(directory, 'file', 'data'))).begun, 1);
    expect(line).toContain(join(directory, 'file', 'data'));
    expect(line).toMatch(/data directory/);
  });

  test('a data directory that is a file is rejected', async () => {
    await writeFile(join(directory, 'file'), '');
    expect(await oneLine((await start(join(directory, 'file'))).begun, 1)).toMatch(/data directory .*file/);
  });

  test.runIf(canBeNobody)('a data directory that the user may not write, or not create, is rejected', async () => {
    await chmod(directory, 0o755);
    await mkdir(join(directory, 'of-root'));
    for (const dataDir of [join(directory, 'of-root'), join(directory, 'new')]) {
      const line = await oneLine((await start(dataDir, { ...nobody, cwd: '/' })).begun, 1);
      expect(line).toContain(dataDir);
      expect(line).toMatch(/data directory/);
    }
  });
});

test(
  'two data directories whose names differ by a trailing blank are two databases, and neither broker ends the other',
  { timeout: 180_000 },
  async () => {
    const first = await start(join(directory, 'data'));
    await first.begun.untilPrinted('Millrace serves', 60_000);
    const client = connect(first.address);
    await call(client, TopicService.method.createTopic, { topic: { name: 'orders' } });
    const second = await start(join(directory, 'data '));
    await second.begun.untilPrinted('Millrace serves', 60_000);
    const other = connect(second.address);
    expect((await call(other, TopicService.method.listTopics, {})).topics).toEqual([]);
    await call(client, BrokerService.method.publish, { topic: 'orders', records: [{ key: 'kept' }] });
    expect([first.begun.stderr, second.begun.stderr]).toEqual(['', '']);
    client.close();
    other.close();
  },
);

test(
  'SIGTERM during the first setup of the database ends both processes, and the next start finishes the setup',
  { timeout: 120_000 },
  async () => {
    const dataDir = join(directory, 'data');
    const { begun } = await start(dataDir, {}, 'info');
    await begun.until('its lock', () =>
      readFile(join(dataDir, 'broker.pid')).then(
        () => true,
        () => false,
      ),
    );
    begun.signal('SIGTERM');
    expect(await begun.end()).toBe(0);
    expect(begun.stdout).toBe('');
    const left = await readdir(dataDir, { recursive: true });
    expect(left.filter((path) => path.endsWith('postmaster.pid'))).toEqual([]);
    const next = await start(dataDir);
    await next.begun.untilPrinted('Millrace serves', 60_000);
  },
);

test(
  "libpq's variables reach neither the embedded server nor the broker's sessions on it",
  { timeout: 120_000 },
  async () => {
    await expectDurable(join(directory, 'data'), {
      env: {
        PGSSLMODE: 'require',
        PGSSLNEGOTIATION: 'direct',
        PGHOST: '192.0.2.1',
        PGPORT: '1',
        PGUSER: 'nobody',
        PGDATABASE: 'nowhere',
        PGOPTIONS: '-c statement_timeout=1ms',
        PGREPLICATION: 'database',
        PGDATA: '/nowhere',
        NODE_PG_FORCE_NATIVE: '1',
      },
    });
  },
);
