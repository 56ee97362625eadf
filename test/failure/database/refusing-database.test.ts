import type { Client as GrpcClient, ServiceError } from '@grpc/grpc-js';
import { Client } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { call, connect } from '../../../bench/client/service-client.ts';
import type { BrokerProcess } from '../../../bench/support/broker-process.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { grpcDetails } from '../../rpc/grpc-client.ts';
import { createTestDatabase } from '../../support/database.ts';
import { Brokers, whyNotReady } from '../brokers.ts';
import { createTopic } from '../clients.ts';

let brokers: Brokers;
let admin: Client;
beforeEach(async () => {
  brokers = await Brokers.open(createTestDatabase);
  admin = new Client({ connectionString: brokers.database.url });
  await admin.connect();
});
afterEach(async () => {
  await admin.end();
  await brokers.close();
});

/** States of every class that PostgreSQL has, of its extensions, and of nobody. */
const states = [
  ...[
    '03000',
    '08006',
    '08P01',
    '0A000',
    '0B000',
    '0L000',
    '20000',
    '21000',
    '22003',
    '23505',
    '24000',
    '25006',
    '25P02',
  ],
  ...[
    '25P03',
    '26000',
    '27000',
    '28000',
    '2BP01',
    '2D000',
    '2F005',
    '34000',
    '38000',
    '39000',
    '3B001',
    '3D000',
    '3F000',
  ],
  ...[
    '40001',
    '40P01',
    '42501',
    '42601',
    '42703',
    '42P01',
    '42P02',
    '42P05',
    '44000',
    '53100',
    '53300',
    '54000',
    '55000',
  ],
  ...['55P03', '57014', '57P01', '57P03', '58030', '72000', 'F0000', 'HV000', 'P0001', 'XX000', 'XX001', 'ZZ999'],
];

/** From now on the fence, which every write asks first, raises what `public.refusing` has. */
async function letTheFenceRefuse(): Promise<void> {
  await admin.query('CREATE TABLE public.refusing (state text); GRANT SELECT ON public.refusing TO PUBLIC');
  const { rows } = await admin.query<{ source: string }>(
    "SELECT pg_get_functiondef('millrace.fence'::regproc) AS source",
  );
  const refuse = `BEGIN
    IF EXISTS (SELECT FROM public.refusing) THEN
      RAISE EXCEPTION 'the test refuses' USING ERRCODE = (SELECT state FROM public.refusing);
    END IF;`;
  await admin.query(rows[0]!.source.replace('BEGIN', () => refuse));
}

async function refuse(state: string | null): Promise<void> {
  await admin.query('DELETE FROM public.refusing');
  if (state !== null) await admin.query('INSERT INTO public.refusing VALUES ($1)', [state]);
}

async function refusalOf(answer: Promise<unknown>): Promise<string> {
  const error = await answer.then(
    () => null,
    (thrown: ServiceError) => thrown,
  );
  if (error === null) return 'no refusal';
  const { ErrorInfo, RetryInfo } = grpcDetails(error) as { ErrorInfo?: { reason: string }; RetryInfo?: object };
  return `${ErrorInfo?.reason ?? 'no reason'}${RetryInfo === undefined ? '' : ', to be repeated'}`;
}

const publish = (client: GrpcClient): Promise<unknown> =>
  call(client, BrokerService.method.publish, { topic: 'orders', partition: 0, records: [{ value: Buffer.from('x') }] });

function lines(broker: BrokerProcess, pattern: RegExp): string[] {
  return broker
    .output()
    .split('\n')
    .filter((line) => pattern.test(line));
}

test(
  'whatever state the database refuses a write with, the broker stays, says so and goes on afterwards',
  { timeout: 300_000 },
  async () => {
    const broker = await brokers.active({ logLevel: 'info' });
    const client = connect(broker.grpcAddress);
    await createTopic(broker.grpcAddress, 'orders');
    await letTheFenceRefuse();
    const group = { group: 'g', topics: ['orders'], clientId: 'c' };
    const { memberId, generation } = await call(client, BrokerService.method.pull, group);
    const answers = new Map<string, string>();
    for (const state of states) {
      await refuse(state);
      answers.set(state, await refusalOf(publish(client)));
      const ack = { group: 'g', memberId, generation, acks: [{ topic: 'orders', partition: 0, upToOffset: 0n }] };
      await refusalOf(call(client, BrokerService.method.ack, ack));
      await refuse(null);
      // What is being read again after an outcome that was not known is there soon. After a full
      // disk or a read-only database a probe has to write first.
      await waitFor(`publishes to go on after ${state}`, 60_000, 20, () =>
        publish(client).then(
          () => true,
          () => false,
        ),
      );
    }
    const expected = (state: string): string => {
      if (/^2[23]/.test(state)) return 'DATA_REFUSED';
      if (state === '25006') return 'DATABASE_READ_ONLY, to be repeated';
      if (state === '53100') return 'DISK_FULL, to be repeated';
      return `${/^(08|57P0[1-5]|25P0[34])/.test(state) ? 'OUTCOME_UNKNOWN' : 'DATABASE_UNAVAILABLE'}, to be repeated`;
    };
    expect(Object.fromEntries(answers)).toEqual(Object.fromEntries(states.map((state) => [state, expected(state)])));
    expect([broker.process.exitCode, await whyNotReady(broker)]).toEqual([null, 'ready\n']);
    // An append to a missing table looks for the next segment, so it is no trouble of the session.
    for (const state of states.filter((one) => one !== '42P01')) {
      expect(
        lines(broker, new RegExp(`sessions for append: .*the test refuses.*SQLSTATE ${state}`)),
        state,
      ).toHaveLength(1);
    }
    await waitFor(
      'the end of the trouble',
      10_000,
      20,
      () => lines(broker, /sessions for append: works again/).length > 0,
    );
    client.close();
  },
);

test(
  'a state that cannot be loaded is loaded later, and /readyz says meanwhile why not',
  { timeout: 60_000 },
  async () => {
    await (await brokers.active()).stop();
    await admin.query('ALTER TABLE millrace.consumer_groups RENAME TO consumer_groups_away');
    const broker = await brokers.start({ until: 'alive' });
    await waitFor('the reason', 20_000, 20, async () => /^loading: .*does not exist/.test(await whyNotReady(broker)));
    await admin.query('ALTER TABLE millrace.consumer_groups_away RENAME TO consumer_groups');
    await waitFor('the broker to serve', 20_000, 20, () => broker.ready());
    expect(lines(broker, /loading: /)).toHaveLength(1);
  },
);

test(
  'with too few sessions the start says so, calls are refused with a line in the log, and served when there are more',
  { timeout: 60_000 },
  async () => {
    const { name } = brokers.database;
    await admin.query(
      `CREATE ROLE ${name} LOGIN PASSWORD 'few' CONNECTION LIMIT 3; GRANT CREATE ON DATABASE ${name} TO ${name}`,
    );
    const url = new URL(brokers.database.url);
    [url.username, url.password] = [name, 'few'];
    try {
      const broker = await brokers.start({ databaseUrl: url.href, logLevel: 'info', until: 'alive' });
      await waitFor(
        'the warning',
        20_000,
        20,
        () =>
          lines(broker, /needs \d+ sessions of the database and can get \d+, by the CONNECTION LIMIT of the role/)
            .length === 1,
      );
      await waitFor('the broker to serve', 20_000, 20, () => broker.ready());
      const client = connect(broker.grpcAddress);
      const create = (): Promise<unknown> =>
        call(client, TopicService.method.createTopic, { topic: { name: 'orders' } });
      for (let n = 0; n < 5; n++) expect(await refusalOf(create())).toBe('DATABASE_UNAVAILABLE, to be repeated');
      expect(lines(broker, /sessions for tables: .*too many connections for role.*SQLSTATE 53300/)).toHaveLength(1);
      await admin.query(`ALTER ROLE ${name} CONNECTION LIMIT 40`);
      expect(await refusalOf(create())).toBe('no refusal');
      await waitFor('the end of the trouble', 20_000, 20, () => lines(broker, /for tables: works again/).length === 1);
      client.close();
      await broker.stop();
    } finally {
      await admin.query(`DROP OWNED BY ${name}; DROP ROLE ${name}`);
    }
  },
);
