import type { DescMethod } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import type { Refusal } from '../broker/refusal.ts';
import { connectStreamRefusal } from '../rpc/text/connect-stream-refusal.ts';
import { binaryWithEntries, binaryWithParents, jsonWithEntries, listFields } from '../rpc/text/list-fields.ts';
import { HostileSite } from './hostile-site.ts';

let hostile: HostileSite;
beforeAll(async () => {
  hostile = await HostileSite.open();
});
afterEach(async () => {
  await hostile.site.expectAllThere();
});
afterAll(async () => {
  await hostile.close();
});

/** Over every edge that takes the call and the format. */
async function refusals(method: DescMethod, body: Buffer<ArrayBuffer>, format = 'proto'): Promise<(Refusal | null)[]> {
  return hostile.attack(async (site) => {
    if (method.methodKind === 'bidi_streaming') {
      return [await connectStreamRefusal(site.broker.httpPort, method, body, format)];
    }
    const overHttp = await site.connectRefusal(method, body, format);
    const isUnary = format === 'proto' && method.methodKind === 'unary';
    return isUnary ? [overHttp, await site.rawRefusal(method, body)] : [overHttp];
  });
}

function expectForeseen(answers: readonly (Refusal | null)[]): void {
  const foreseen = ['INVALID_FIELD', 'MALFORMED_REQUEST', 'REQUEST_TOO_LARGE'];
  for (const answer of answers) expect(foreseen).toContain(answer?.reason);
}

describe('a request of many small entries', () => {
  test.each(listFields())('a request of two million small entries does not end the broker: $name', async (list) => {
    expectForeseen(await refusals(list.method, binaryWithEntries(list, 2_000_000)));
    const spread = binaryWithParents(list, 500_000);
    if (spread !== null) expectForeseen(await refusals(list.method, spread));
    expectForeseen(await refusals(list.method, jsonWithEntries(list, '{}', 340_000), 'json'));
  });
});

describe('JSON that is deep or wide', () => {
  test.each([
    ['lists in each other', '['],
    ['objects in each other', '{"a":'],
    ['lists beside each other', '[],'],
    ['objects beside each other', '{},'],
  ])('JSON of 4 to 8 MB ends neither the broker nor stops its event loop: %s', async (_what, piece) => {
    const body = Buffer.concat([
      Buffer.from('{"topic":"orders","records":['),
      Buffer.alloc(piece.length === 1 ? 3_900_000 : 8_100_000, piece),
    ]);
    for (let times = 0; times < 10; times++) expectForeseen(await refusals(BrokerService.method.publish, body, 'json'));
  });
});
