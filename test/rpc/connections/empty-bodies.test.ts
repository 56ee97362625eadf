import { expect, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { answerOf, openCall, rawSession } from '../raw-call.ts';
import { serve } from '../serving.ts';

const calls = 4 * limits.streamsAtOnceMax;

test.each([
  ['PublishStream over gRPC', 'grpc', 'BrokerService/PublishStream', 'application/grpc', 0],
  ['PublishStream over HTTP', 'http', 'BrokerService/PublishStream', 'application/grpc', 0],
  ['ListGroups over gRPC', 'grpc', 'GroupService/ListGroups', 'application/grpc', 3],
  ['ListGroups over HTTP', 'http', 'GroupService/ListGroups', 'application/grpc', 3],
] as const)(
  'each of very many %s whose body is empty is answered, however long it waits for its turn',
  async (_name, edge, method, contentType, code) => {
    const { grpcPort, httpPort } = await serve();
    const session = rawSession(edge === 'grpc' ? grpcPort : httpPort);
    const answers = Array.from({ length: calls }, () => {
      const call = openCall(session, `/millrace.v1.${method}`, { 'content-type': contentType });
      const answer = answerOf(call);
      call.end();
      return answer;
    });
    const codes = (await Promise.all(answers)).map((answer) => answer.code);
    expect(new Set(codes)).toEqual(new Set([code]));
  },
);
