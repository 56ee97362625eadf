import { expect, test } from 'vitest';
import { ServerReflectionRequestSchema } from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { systemClock } from '../../../src/time/system.ts';
import { encode } from '../grpc-client.ts';
import { framed, openCall, rawSession } from '../raw-call.ts';
import { serve } from '../serving.ts';

const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
const question = framed(
  encode(ServerReflectionRequestSchema, { messageRequest: { case: 'fileByFilename', value: 'nothing.proto' } }),
);

test('the questions of many streams of reflection over HTTP are answered in turns, and not all at once', async () => {
  const due: (() => void)[] = [];
  const { httpPort, bugs } = await serve({ clock: { ...systemClock, soon: (run) => void due.push(run) } });
  const session = rawSession(httpPort);
  const questions = 3 * limits.reflectionQuestionsAtOnceMax;
  const answers = [0, 0, 0].map((_, index, counts) => {
    const call = openCall(session, path, { 'content-type': 'application/connect+proto' });
    let unread = Buffer.alloc(0);
    call.on('data', (chunk: Buffer) => {
      unread = Buffer.concat([unread, chunk]);
      while (unread.length >= 5 && unread.length >= 5 + unread.readUInt32BE(1)) {
        unread = unread.subarray(5 + unread.readUInt32BE(1));
        counts[index]! += 1;
      }
    });
    call.write(Buffer.concat(Array.from({ length: questions }, () => question)));
    return counts;
  })[0]!;
  const answered = () => answers.reduce((sum, count) => sum + count, 0);
  let turns = 0;
  await expect
    .poll(
      () => {
        if (due.length > 0) turns += 1;
        for (const run of due.splice(0)) run();
        return answered();
      },
      { interval: 20 },
    )
    .toBe(3 * questions);
  expect(turns).toBeGreaterThanOrEqual((3 * questions) / limits.reflectionQuestionsAtOnceMax);
  expect(bugs).toEqual([]);
});
