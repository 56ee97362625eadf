import { status, type Client } from '@grpc/grpc-js';
import type { DescMethod } from '@bufbuild/protobuf';
import { Client as Postgres } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { connect, call, methodPath, openServerStream } from '../../../bench/client/service-client.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { encode, failureOf, GrpcClient } from '../../rpc/grpc-client.ts';
import { Member } from '../member.ts';
import { Relay } from '../relay.ts';
import { Site } from '../site.ts';

/**
 * Joins that their clients give up, over both edges. Nobody here waits for a session timeout: it is
 * half an hour.
 */

const { subscribe, pull } = BrokerService.method;
const { joinGroup, listGroups, getGroup } = GroupService.method;
const sessionTimeout = { seconds: 1_800n, nanos: 0 };
/** With it a Pull that has joined waits for records. */
const wait = { seconds: 60n, nanos: 0 };

let site: Site;
let postgres: Postgres;
let other: Member;
let topic = '';
let group = '';
let tests = 0;
beforeAll(async () => {
  site = await Site.open();
  postgres = new Postgres({ connectionString: site.databaseUrl });
  await postgres.connect();
});
beforeEach(async () => {
  tests++;
  topic = `orders-${tests}`;
  group = `group-${tests}`;
  await site.createTopic(topic);
  other = await new Member(site.broker.grpcAddress, { group, topics: [topic] }).untilPartitions(0, 1);
});
afterEach(async () => {
  await postgres.query('ROLLBACK');
  other.leave();
});
afterAll(async () => {
  await postgres.end();
  await site.close();
});

/** From now on no join is durable, so none is answered. */
async function holdJoins(): Promise<void> {
  await postgres.query('BEGIN; LOCK TABLE millrace.group_members IN ACCESS EXCLUSIVE MODE');
}

/** Or until the call is over: on a slow machine a deadline may end before the join. */
async function untilJoining(joining: Promise<unknown> = Promise.withResolvers().promise): Promise<void> {
  let over = false;
  const end = (): void => {
    over = true;
  };
  joining.then(end, end);
  await waitFor('a join to be written', 10_000, 5, async () => {
    if (over) return true;
    const { rows } = await postgres.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()`,
    );
    return rows[0]!.n > 0;
  });
}

/**
 * The joins may be written now; the one that was given up leaves, and what is published goes to the
 * member that is left.
 */
async function expectNoTrace(): Promise<void> {
  await postgres.query('ROLLBACK');
  await waitFor('the other member to be alone', 10_000, 5, async () => {
    const { members, group: shown } = await site.call(getGroup, { group });
    return members.map(({ memberId }) => memberId).join() === other.memberId && shown!.generation! >= 1n;
  });
  await other.untilPartitions(0, 1);
  await site.publish(topic, 0, ['a']);
  await site.publish(topic, 1, ['b']);
  await other.untilReceived(2);
}

describe('a join over gRPC that its client abandons', () => {
  let client: Client;
  beforeEach(() => {
    client = connect(site.broker.grpcAddress, { 'grpc.use_local_subchannel_pool': 1 });
  });
  afterEach(() => {
    client.close();
  });

  /** The broker reads a connection in order: once it answers this, it has read what came before. */
  async function untilRead(): Promise<void> {
    await call(client, listGroups, {});
  }

  test.each([
    ['JoinGroup', joinGroup],
    ['Pull', pull],
  ] as const)('a %s whose deadline ends before its answer leaves no member', async (_, method) => {
    await holdJoins();
    const deadline = Date.now() + 1_500;
    const request = { group, topics: [topic], sessionTimeout };
    const joining = failureOf(call<DescMethod>(client, method, request, { deadline }));
    await untilJoining(joining);
    expect((await joining).code).toBe(status.DEADLINE_EXCEEDED);
    await untilRead();
    await expectNoTrace();
  });

  test('a Subscribe with a session timeout that is cancelled before its first event leaves no member', async () => {
    await holdJoins();
    const stream = openServerStream(client, subscribe, { group, topics: [topic], sessionTimeout });
    stream.on('error', () => undefined);
    await untilJoining();
    stream.cancel();
    await untilRead();
    await expectNoTrace();
  });

  test('a Pull that has joined and is cancelled while it waits leaves no member', async () => {
    const waiting = new GrpcClient(site.broker.grpcPort, { 'grpc.use_local_subchannel_pool': 1 });
    const cancel = waiting.cancellable(pull, encode(pull.input, { group, topics: [topic], sessionTimeout, wait }));
    await untilMembers(2);
    cancel();
    await waiting.unary(listGroups, {});
    await expectNoTrace();
  });

  test('a connection that breaks before the answer of a JoinGroup leaves no member', async () => {
    const relay = await Relay.open(site.broker.grpcPort);
    const cut = connect(relay.address, { 'grpc.use_local_subchannel_pool': 1 });
    await holdJoins();
    const joining = failureOf(call(cut, joinGroup, { group, topics: [topic], sessionTimeout }));
    await untilJoining();
    await relay.close();
    expect((await joining).code).toBe(status.UNAVAILABLE);
    await untilRead();
    await untilRead();
    await expectNoTrace();
    cut.close();
  });
});

describe('a join over HTTP that its client abandons', () => {
  const post = (method: DescMethod, body: object, headers: object = {}, signal?: AbortSignal): Promise<Response> => {
    const streams = method.methodKind === 'server_streaming';
    const json = JSON.stringify({ group, topics: [topic], ...body });
    return fetch(site.broker.httpUrl + methodPath(method), {
      method: 'POST',
      headers: { 'content-type': `application/${streams ? 'connect+' : ''}json`, ...headers },
      body: streams ? `\0\0\0\0${String.fromCharCode(json.length)}${json}` : json,
      signal: signal ?? null,
    });
  };

  /**
   * A call whose deadline begins later ends later: then the broker has seen the end of those before
   * it.
   */
  async function untilOver(timeoutMs: number): Promise<void> {
    const { memberId } = other;
    const body = { memberId, wait: '60s', maxRecords: 1 };
    const response = await post(pull, body, { 'connect-timeout-ms': String(timeoutMs) });
    expect(await response.json()).toMatchObject({ code: 'deadline_exceeded' });
  }

  test.each([
    ['JoinGroup', joinGroup],
    ['Pull', pull],
    ['Subscribe with a session timeout', subscribe],
  ] as const)('a %s whose client goes before the first byte of the answer leaves no member', async (_, method) => {
    const gone = new AbortController();
    await holdJoins();
    const joining = failureOf(post(method, { sessionTimeout: '1800s' }, {}, gone.signal));
    await untilJoining();
    gone.abort();
    await joining;
    await untilOver(200);
    await expectNoTrace();
  });

  test.each([
    ['JoinGroup', joinGroup, /deadline_exceeded/],
    ['Pull', pull, /deadline_exceeded/],
    ['Subscribe with a session timeout', subscribe, /"?\{\}$/],
  ] as const)('a %s whose deadline ends before its answer leaves no member', async (_, method, end) => {
    await holdJoins();
    const joining = post(method, { sessionTimeout: '1800s' }, { 'connect-timeout-ms': '200' });
    await untilJoining(joining);
    await untilOver(250);
    await expectNoTrace();
    // Nor is an id told that is no member's.
    expect(await (await joining).text()).toMatch(end);
  });
});

async function untilMembers(count: number): Promise<void> {
  await waitFor(`${count} members`, 10_000, 5, async () => {
    const { members } = await site.call(getGroup, { group });
    return members.length === count;
  });
}
