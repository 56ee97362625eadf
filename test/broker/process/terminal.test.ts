import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ServiceError } from '@grpc/grpc-js';
import { expect, onTestFinished, test } from 'vitest';
import { call, connect, openServerStream } from '../../../bench/client/service-client.ts';
import { freePort } from '../../../bench/support/free-port.ts';
import { BrokerService, type SubscribeResponse } from '../../../gen/millrace/v1/broker_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { Terminal } from '../../support/terminal.ts';
import { grpcRefusal } from '../refusal.ts';
import { entryPoint, flagsOf, Starts } from '../start.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const starts = new Starts();
const sigterm = 15;

test(
  'Ctrl-C under npm start, which signals the broker twice, drains it: confirmed records stay, and members get a goodbye',
  { timeout: 180_000 },
  async () => {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-terminal-'));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    const grpcPort = await freePort();
    const ports = ['--grpc-port', String(grpcPort), '--http-port', String(await freePort())];
    const flags = [...ports, '--data-dir', join(directory, 'data')];
    const terminal = new Terminal('npm', ['start', '--', ...flags], root);
    await terminal.until('the broker serves', () => terminal.shown.includes('Millrace serves'), 120_000);
    const client = connect(`127.0.0.1:${grpcPort}`);
    onTestFinished(() => {
      client.close();
    });
    await call(client, TopicService.method.createTopic, { topic: { name: 'orders', partitions: 1 } });
    const { results } = await call(client, BrokerService.method.publish, { topic: 'orders', records: [{ key: 'k' }] });
    expect(results).toMatchObject([{ offset: 0n }]);
    const request = { group: 'g', topics: ['orders'], start: { position: { case: 'earliest' as const, value: {} } } };
    const stream = openServerStream(client, BrokerService.method.subscribe, { ...request, autoAck: true });
    const events: (string | undefined)[] = [];
    stream.on('data', ({ event }: SubscribeResponse) => events.push(event.case));
    const ended = once(stream, 'error') as Promise<[ServiceError]>;
    await terminal.until('a batch', () => events.includes('batch'));

    terminal.type('\x03');
    const [error] = await ended;
    expect(events).toContain('draining');
    expect(grpcRefusal(error)).toMatchObject({ code: 'UNAVAILABLE', reason: 'DRAINING' });
    expect([await terminal.end(), terminal.shown]).toEqual([0, expect.stringContaining('SIGINT: draining')]);
    // The terminal's signal would have ended the embedded server before the broker had drained.
    expect(terminal.shown).not.toMatch(/has died|does not answer/);
  },
);

test('a terminal stopped by Ctrl-S does not keep a broker from ending', { timeout: 60_000 }, async () => {
  const flags = await flagsOf(starts.database.url);
  const node = ['--disable-warning=ExperimentalWarning', entryPoint];
  const terminal = new Terminal(process.execPath, [...node, ...flags, '--log-level', 'trace'], root);
  await terminal.until('the broker serves', () => terminal.shown.includes('this broker owns the database and serves'));
  await terminal.stopOutput();
  const sentMs = performance.now();
  terminal.signal(sigterm);
  expect(await terminal.end()).toBe(0);
  expect(performance.now() - sentMs).toBeLessThan(10_000);
});
