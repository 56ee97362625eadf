import type { DescMethod } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import type { Refusal } from '../broker/refusal.ts';
import type { Site } from '../broker/site.ts';
import { connectStreamRefusal } from '../rpc/text/connect-stream-refusal.ts';
import { binaryWithEntries, binaryWithParents, jsonWithEntries, listFields } from '../rpc/text/list-fields.ts';
import { HostileSite } from './hostile-site.ts';

const timeout = 240_000;
let hostile: HostileSite;
beforeAll(async () => {
  hostile = await HostileSite.open();
}, timeout);
afterAll(() => hostile.close(), timeout);

/** Over every edge that takes the call and the format. */
async function refusals(
  site: Site,
  method: DescMethod,
  body: Buffer<ArrayBuffer>,
  format = 'proto',
): Promise<(Refusal | null)[]> {
  if (method.methodKind === 'bidi_streaming') {
    return [await connectStreamRefusal(site.broker.httpPort, method, body, format)];
  }
  const overHttp = await site.connectRefusal(method, body, format);
  const isUnary = format === 'proto' && method.methodKind === 'unary';
  return isUnary ? [overHttp, await site.rawRefusal(method, body)] : [overHttp];
}

function expectForeseen(answers: readonly (Refusal | null)[]): void {
  const foreseen = ['INVALID_FIELD', 'MALFORMED_REQUEST', 'REQUEST_TOO_LARGE'];
  for (const answer of answers) expect(foreseen).toContain(answer?.reason);
}

describe('a request of many small entries', () => {
  test.each(listFields())(
    'a request of two million small entries does not end the broker: $name',
    { timeout },
    async (list) => {
      await hostile.attack(async (site) => {
        expectForeseen(await refusals(site, list.method, binaryWithEntries(list, 2_000_000)));
        const spread = binaryWithParents(list, 500_000);
        if (spread !== null) expectForeseen(await refusals(site, list.method, spread));
        expectForeseen(await refusals(site, list.method, jsonWithEntries(list, '{}', 340_000), 'json'));
      });
    },
  );
});

describe('JSON that is deep or wide', () => {
  test.each([
    ['lists in each other', '['],
    ['objects in each other', '{"a":'],
    ['lists beside each other', '[],'],
    ['objects beside each other', '{},'],
  ])('JSON of 4 to 8 MB ends neither the broker nor stops its event loop: %s', { timeout }, async (_what, piece) => {
    const body = Buffer.concat([
      Buffer.from('{"topic":"orders","records":['),
      Buffer.alloc(piece.length === 1 ? 3_900_000 : 8_100_000, piece),
    ]);
    await hostile.attack(async (site) => {
      for (let times = 0; times < 10; times++) {
        expectForeseen(await refusals(site, BrokerService.method.publish, body, 'json'));
      }
    });
  });
});
