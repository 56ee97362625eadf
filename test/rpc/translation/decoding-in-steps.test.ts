import {
  create,
  fromBinary,
  fromJsonString,
  toBinary,
  toJsonString,
  type DescMessage,
  type Message,
} from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AckRequestSchema, PublishRequestSchema, SubscribeRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { SyncGroupRequestSchema } from '../../../gen/millrace/v1/group_pb.js';
import { CreateSubscriptionRequestSchema } from '../../../gen/millrace/v1/subscription_pb.js';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { limits } from '../../../src/limits/limits.ts';
import { binarySteps, jsonSteps, jsonToBinarySteps } from '../../../src/rpc/translation/decode.ts';
import { checkJsonNumbers } from '../../../src/rpc/translation/json-numbers.ts';
import { property } from '../../coordinator/property.ts';
import { mutated, mutations } from '../../wire/mutation.ts';

function ran<T>(steps: Iterator<unknown, T>): { readonly value: T; readonly steps: number } {
  for (let count = 1; ; count += 1) {
    const step = steps.next();
    if (step.done === true) return { value: step.value, steps: count };
  }
}

/** By their bytes: `toEqual` would take minutes to show how two such messages differ. */
function expectSame(desc: DescMessage, actual: Message, expected: Message): void {
  expect(Buffer.compare(toBinary(desc, actual), toBinary(desc, expected))).toBe(0);
}

const uncounted = { holdDecoded: () => undefined };
const many = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, at) => make(at));
const places = (count: number) => many(count, (partition) => ({ topic: 'örders "1"', partition }));

/** Requests that are large in different ways. */
const large: readonly (readonly [string, DescMessage, Record<string, unknown>])[] = [
  [
    'many records',
    PublishRequestSchema,
    {
      topic: 'orders',
      records: many(5_000, (at) => ({ key: `k${at}`, value: Buffer.alloc(at % 40), headers: { a: `${at}` } })),
    },
  ],
  [
    'large records',
    PublishRequestSchema,
    { records: many(5, (at) => ({ key: `k${at}`, value: Buffer.alloc(100_000, at) })) },
  ],
  [
    'one record with very many headers',
    PublishRequestSchema,
    { records: [{ headers: Object.fromEntries(many(10_000, (at) => [`name-${at}`, 'x'])) }], topic: 'orders' },
  ],
  [
    'acks of single offsets',
    AckRequestSchema,
    { group: 'g', acks: many(3_000, (at) => ({ topic: 'o', offsets: [BigInt(at)] })) },
  ],
  [
    'an ack of many ranges',
    AckRequestSchema,
    { acks: [{ topic: 'o', ranges: many(9_000, (at) => ({ first: BigInt(at) })) }, {}] },
  ],
  [
    'a plan in which one member gets nearly everything',
    SyncGroupRequestSchema,
    {
      memberId: 'm',
      plan: {
        members: [
          { memberId: 'a', partitions: places(9_000) },
          { memberId: 'b', partitions: places(3) },
        ],
      },
    },
  ],
  [
    'a subscription that begins at many offsets',
    CreateSubscriptionRequestSchema,
    {
      group: 'g',
      start: {
        position: {
          case: 'offset',
          value: { offset: 7n, partitions: many(9_000, (partition) => ({ partition, offset: 1n })) },
        },
      },
    },
  ],
  [
    'a stream that begins at many offsets',
    SubscribeRequestSchema,
    {
      start: {
        position: { case: 'offset', value: { partitions: many(9_000, (partition) => ({ partition, offset: 1n })) } },
      },
      group: 'g',
    },
  ],
];

describe.each(large)('a large request is the same in steps as at once: %s', (_what, desc, fields) => {
  const message = create(desc, fields);

  test('in protobuf', () => {
    const bytes = Buffer.from(toBinary(desc, message));
    const inSteps = ran(binarySteps(desc, bytes, uncounted));
    expectSame(desc, inSteps.value, fromBinary(desc, bytes));
    expect(inSteps.steps).toBeGreaterThan(bytes.length / limits.bytesAtOnceMax);
  });

  test('in JSON', () => {
    const text = toJsonString(desc, message);
    const inSteps = ran(jsonSteps(desc, Buffer.from(text)));
    expectSame(desc, inSteps.value, fromJsonString(desc, text));
    expect(inSteps.steps).toBeGreaterThan(2);
    const encoded = ran(jsonToBinarySteps(desc, Buffer.from(text))).value;
    expectSame(desc, fromBinary(desc, encoded), inSteps.value);
    const spaced = JSON.stringify(JSON.parse(text), null, '\t\r\n ');
    expectSame(desc, ran(jsonSteps(desc, Buffer.from(` ${spaced}\n`))).value, inSteps.value);
  });
});

test('a message that comes twice in protobuf is merged in steps as at once', () => {
  const plan = (memberId: string, count: number) =>
    toBinary(
      SyncGroupRequestSchema,
      create(SyncGroupRequestSchema, { plan: { members: [{ memberId, partitions: places(count) }] } }),
    );
  const bytes = Buffer.concat([plan('a', 1), plan('b', 9_000), plan('c', 1), plan('d', 9_000)]);
  const { value } = ran(binarySteps(SyncGroupRequestSchema, bytes, uncounted));
  expectSame(SyncGroupRequestSchema, value, fromBinary(SyncGroupRequestSchema, bytes));
  expect(value.plan!.members.map(({ memberId }) => memberId)).toEqual(['a', 'b', 'c', 'd']);
});

function refusalOf(desc: DescMessage, json: string): string {
  try {
    ran(jsonSteps(desc, Buffer.from(json)));
    return 'accepted';
  } catch (error) {
    if (error instanceof Rejection) return `${error.reason}: ${error.message}`;
    throw error;
  }
}

describe('large JSON is checked as strictly as small JSON', () => {
  const record = (index: number) => `{"key":"${index}","value":"aGVsbG8="}`;
  const records = many(4_000, record);
  const all = records.join(',');

  test.each([
    ['a list twice', `{"records":[${all}],"topic":"o","records":[]}`, 'multiple times'],
    ['a list twice, once by an escape', `{"records":[${all}],"re\\u0063ords":[]}`, 'multiple times'],
    ['a key twice in an entry', `{"records":[${all},{"key":"a","key":"b"}]}`, 'key "key"'],
    ['an unknown key', `{"records":[${all}],"topik":"o"}`, 'key "topik" is unknown'],
    ['an unknown key in an entry', `{"records":[${all},{"kei":"a"}]}`, 'key "kei" is unknown'],
    ['a number in another base', `{"records":[${all}],"partition":"0x1"}`, 'partition: "0x1" is not a number'],
    ['no comma', `{"records":[${all} ${record(1)}]}`, 'unexpected'],
    ['a comma too many', `{"records":[${all},]}`, 'unexpected'],
    ['no end of the list', `{"records":[${all}`, 'unexpected'],
    ['no end of the object', `{"records":[${all}]`, 'unexpected'],
    ['something behind the object', `{"records":[${all}]}{`, 'unexpected'],
    ['a byte order mark', `\ufeff{"records":[${all}]}`, 'unexpected'],
    ['a list as the message', `[${all}]`, 'unexpected'],
    ['a list in place of a text', `{"topic":[${all}]}`, 'topic'],
    ['an object in place of a list', `{"records":{"a":[${all}]}}`, 'records'],
    ['half of a surrogate pair', `{"records":[${all},{"key":"\\ud800"}]}`, 'key'],
    ['no base64', `{"records":[${all},{"value":"*"}]}`, 'value'],
    [
      'two starts of one subscription',
      `{"start":{"earliest":{},"offset":{"partitions":[${many(9_000, () => '{}').join(',')}, {"partition":1}]}}}`,
      'oneof',
    ],
  ])('%s', (what, json, why) => {
    const desc = what.includes('subscription') ? CreateSubscriptionRequestSchema : PublishRequestSchema;
    expect(json.length).toBeGreaterThan(limits.bytesAtOnceMax / 4);
    expect(refusalOf(desc, json)).toContain('MALFORMED_REQUEST');
    expect(refusalOf(desc, json)).toContain(why);
  });

  test('the refusal of an entry names its place in the whole list', () => {
    const acks = many(4_000, (at) => `{"topic":"orders","partition":${at}}`).join(',');
    expect(refusalOf(AckRequestSchema, `{"acks":[${acks},{"partition":"0x1"}]}`)).toContain('acks[4000].partition');
  });

  test('damaged JSON is taken in steps if, and only if, it is taken at once', () => {
    const acks = many(2_500, (at) => `{"topic":"orders","partition":${at},"offsets":["${at}"]}`).join(',');
    const json = Buffer.from(`{"group":"g","generation":"7","acks":[${acks}],"memberId":"m"}`);
    const same = fc.property(mutations, (mutation) => {
      const changed = mutated(json, mutation);
      const text = changed.toString();
      if (!Buffer.from(text).equals(changed)) return;
      expect(refusalOf(AckRequestSchema, text).startsWith('accepted')).toBe(isTakenAtOnce(text));
    });
    fc.assert(same, property(60));
  });
});

function isTakenAtOnce(text: string): boolean {
  try {
    fromJsonString(AckRequestSchema, text);
    checkJsonNumbers(AckRequestSchema, JSON.parse(text));
    return true;
  } catch {
    return false;
  }
}
