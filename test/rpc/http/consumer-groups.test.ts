import { once } from 'node:events';
import { connect } from 'node:http2';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { MemberId } from '../../../src/coordinator/group.ts';
import type { PartitionStatus } from '../../../src/delivery/ports/session.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { groupNotFound } from '../../../src/errors/rejections/groups.ts';
import { serve, type Serving } from '../serving.ts';

interface Got {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
}

async function get({ httpUrl }: Serving, path: string, method = 'GET'): Promise<Got> {
  const response = await fetch(httpUrl + path, { method });
  const text = await response.text();
  const { status, headers } = response;
  return { status, headers, body: text === '' ? {} : (JSON.parse(text) as Got['body']) };
}

const partition: PartitionStatus = {
  topic: 'orders',
  partition: 0,
  lane: 0,
  committedOffset: 4,
  highWatermark: 6,
  lag: 2,
  blockedOn: 'CREDIT',
  memberId: 'member-1' as MemberId,
  inFlightRecords: 1,
  oldestUnackedAgeMs: 61_500.4,
};

const rebalance = {
  generation: 7,
  causes: [{ reason: 'SESSION_TIMEOUT', memberId: 'member-2' as MemberId, count: 2 }],
  durationMs: 52.4,
  memberCount: 1,
  assignedCount: 3,
  revokedCount: 0,
  completed: true,
  endedAtMs: 1_700_000_000_123.4,
} as const;

describe('a group', () => {
  test('is shown with its members, partitions and rebalances, in the names of the contract', async () => {
    const serving = await serve();
    serving.broker.partitions = [partition];
    serving.broker.rebalances = [rebalance];
    const { status, headers, body } = await get(serving, '/consumer-groups/billing');
    expect([status, headers.get('content-type'), headers.get('cache-control')]).toEqual([
      200,
      'application/json',
      'no-store',
    ]);
    expect(body).toEqual({
      group: {
        name: 'billing',
        state: 'GROUP_STATE_STABLE',
        generation: '1',
        assignor: 'ASSIGNOR_STICKY',
        memberCount: 0,
        topics: ['orders'],
        assignorName: 'sticky',
        leaderId: '',
        lag: '0',
        inFlightRecords: '0',
        topicCount: 1,
      },
      members: [],
      nextPageToken: '',
      partitions: [
        {
          topic: 'orders',
          partition: 0,
          committedOffset: '4',
          highWatermark: '6',
          lag: '2',
          blockedOn: 'BLOCKED_ON_CREDIT',
          memberId: 'member-1',
          inFlightRecords: 1,
          oldestUnackedAge: '61.500s',
          lane: 0,
        },
      ],
      rebalances: [
        {
          generation: '7',
          endTime: '2023-11-14T22:13:20.123Z',
          duration: '0.052s',
          causes: [{ reason: 'REBALANCE_REASON_SESSION_TIMEOUT', memberId: 'member-2', count: 2 }],
          memberCount: 1,
          assignedCount: 3,
          revokedCount: 0,
          completed: true,
        },
      ],
    });
  });

  test('an unknown age is left out, and an age from the future is none', async () => {
    const serving = await serve();
    serving.broker.partitions = [
      { ...partition, oldestUnackedAgeMs: null },
      { ...partition, oldestUnackedAgeMs: -3 },
    ];
    const { body } = await get(serving, '/consumer-groups/billing');
    const [unknown, future] = body['partitions'] as Record<string, unknown>[];
    expect(unknown).not.toHaveProperty('oldestUnackedAge');
    expect(future).toMatchObject({ oldestUnackedAge: '0s' });
  });

  test('is found by its name as a URL writes it', async () => {
    const serving = await serve();
    expect((await get(serving, '/consumer-groups/bill%69ng')).status).toBe(200);
    expect(serving.broker.calls).toEqual([['billing', { size: 1_000, token: '' }], 'billing']);
  });
});

test('the list passes on what it was asked for, in short and in long names of states', async () => {
  const serving = await serve();
  const query = 'state=STABLE&state=GROUP_STATE_EMPTY&topic=orders&pageSize=7&pageToken=audit';
  const { status, body } = await get(serving, `/consumer-groups?${query}`);
  expect([status, body]).toEqual([200, { groups: [], nextPageToken: '' }]);
  await get(serving, '/consumer-groups?state=RECONCILING');
  await get(serving, '/consumer-groups');
  expect(serving.broker.calls).toEqual([
    [
      { states: ['STABLE', 'EMPTY'], topic: 'orders' },
      { size: 7, token: 'audit' },
    ],
    [
      { states: ['COMPLETING_REBALANCE'], topic: null },
      { size: 100, token: '' },
    ],
    [
      { states: [], topic: null },
      { size: 100, token: '' },
    ],
  ]);
});

test('assignments are a page of members', async () => {
  const serving = await serve();
  const { status, body } = await get(serving, '/consumer-groups/billing/assignments?pageSize=2&pageToken=a-1');
  expect([status, body]).toEqual([200, { members: [], nextPageToken: '', generation: '0' }]);
  expect(serving.broker.calls).toEqual([['billing', { size: 2, token: 'a-1' }]]);
});

describe('what cannot be answered', () => {
  test.each([
    ['a name that is none', '/consumer-groups/bill%2Fing', 'INVALID_FIELD'],
    ['an empty name', '/consumer-groups/', 'INVALID_FIELD'],
    ['half a character', '/consumer-groups/bill%C3', 'MALFORMED_REQUEST'],
    ['a name that is none, of assignments', '/consumer-groups/bill%20ing/assignments', 'INVALID_FIELD'],
    ['a state that is none', '/consumer-groups?state=SLEEPY', 'MALFORMED_REQUEST'],
    ['no state', '/consumer-groups?state=UNSPECIFIED', 'INVALID_FIELD'],
    ['a topic that no topic can be called', '/consumer-groups?topic=or%20ders', 'INVALID_FIELD'],
    ['a topic with a question mark', '/consumer-groups?topic=orders?', 'INVALID_FIELD'],
    ['a page that is too large', '/consumer-groups?pageSize=1001', 'INVALID_FIELD'],
    ['a page size that is no number', '/consumer-groups/billing/assignments?pageSize=many', 'MALFORMED_REQUEST'],
    ['a token that no list returned', '/consumer-groups?pageToken=a%20b', 'INVALID_FIELD'],
    ['a parameter twice', '/consumer-groups?topic=a&topic=b', 'INVALID_FIELD'],
    ['a parameter that there is not', '/consumer-groups?states=STABLE', 'INVALID_FIELD'],
    ['a parameter that another path has', '/consumer-groups/billing?state=STABLE', 'INVALID_FIELD'],
    ['a parameter of every object', '/consumer-groups?__proto__=x', 'INVALID_FIELD'],
  ])('%s is 400, and nobody is asked', async (_what, path, reason) => {
    const serving = await serve();
    const { status, headers, body } = await get(serving, path);
    expect(body).toEqual({ code: 'invalid_argument', reason, message: expect.stringMatching(/./) });
    expect([status, headers.get('content-type')]).toEqual([400, 'application/json']);
    expect(serving.broker.calls).toEqual([]);
  });

  test('an unknown group is 404', async () => {
    const serving = await serve();
    serving.broker.fail = groupNotFound({ group: 'nobody' });
    for (const path of ['/consumer-groups/nobody', '/consumer-groups/nobody/assignments']) {
      const { status, body } = await get(serving, path);
      expect([status, body]).toEqual([
        404,
        {
          code: 'not_found',
          reason: 'GROUP_NOT_FOUND',
          message: 'there is no group "nobody": Subscribe, Pull or JoinGroup makes one',
        },
      ]);
    }
  });

  test('a standby, and a database that is away, are 503', async () => {
    const standby = await get(await serve({ services: () => null }), '/consumer-groups');
    expect([standby.status, standby.body]).toMatchObject([503, { code: 'unavailable', reason: 'NOT_OWNER' }]);
    const serving = await serve();
    serving.broker.fail = new Fault('DATABASE_UNAVAILABLE', 'password authentication failed');
    const away = await get(serving, '/consumer-groups/billing');
    expect([away.status, away.body]).toMatchObject([503, { reason: 'DATABASE_UNAVAILABLE' }]);
    expect(away.body['message']).not.toContain('password');
  });

  test('a bug is 500, without what is inside', async () => {
    const serving = await serve();
    serving.broker.fail = new TypeError('boom');
    const { status, body } = await get(serving, '/consumer-groups');
    expect([status, body]).toMatchObject([500, { code: 'internal', reason: 'BUG' }]);
    expect(body['message']).not.toContain('boom');
    expect(serving.bugs).toHaveLength(1);
  });

  test.each(['POST', 'PUT', 'DELETE', 'PATCH'])('%s is 405 and does nothing', async (method) => {
    const serving = await serve();
    for (const path of ['/consumer-groups', '/consumer-groups/billing', '/consumer-groups/billing/assignments']) {
      const { status, headers, body } = await get(serving, path, method);
      expect([status, headers.get('allow'), body]).toMatchObject([405, 'GET, HEAD', { reason: 'METHOD_NOT_ALLOWED' }]);
    }
    expect(serving.broker.calls).toEqual([]);
  });

  test.each(['/consumer-groups/billing/members', '/consumer-groups/a/assignments/b', '/consumer-groupsx'])(
    '%s is not there',
    async (path) => {
      const { httpUrl } = await serve();
      expect((await fetch(httpUrl + path)).status).toBe(404);
    },
  );
});

test('HEAD answers like GET, without the body', async () => {
  const { status, headers, body } = await get(await serve(), '/consumer-groups', 'HEAD');
  expect([status, headers.get('content-type'), body]).toEqual([200, 'application/json', {}]);
});

test('a client of HTTP/2 gets the same', async () => {
  const { httpUrl } = await serve();
  const session = connect(httpUrl);
  onTestFinished(() => {
    session.destroy();
  });
  const request = session.request({ ':path': '/consumer-groups' });
  const [headers] = (await once(request, 'response')) as [Record<string, unknown>];
  const chunks: Buffer[] = await request.toArray();
  expect([headers[':status'], headers['content-type']]).toEqual([200, 'application/json']);
  expect(JSON.parse(Buffer.concat(chunks).toString())).toEqual({ groups: [], nextPageToken: '' });
});
