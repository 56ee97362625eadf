import { create, toBinary, type DescMethodUnary, type MessageShape } from '@bufbuild/protobuf';
import {
  createConnectRouter,
  type ConnectError,
  type ConnectRouter,
  type HandlerContext as ConnectContext,
} from '@connectrpc/connect';
import { ServerReflection, type ServerReflectionRequest } from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { BrokerService, PublishRequestSchema, PublishResponseSchema } from '../../../gen/millrace/v1/broker_pb.js';
import type { PublishRequest } from '../../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../limits/limits.ts';
import { answerBytesMax } from '../answers/answer-size.ts';
import type { CallCounts, MethodCalls } from '../edge/call-counts.ts';
import type { ReportBug } from '../edge/errors.ts';
import { services, type Handlers, type UnaryMethod } from '../handlers/handlers.ts';
import { Reflection } from '../handlers/reflection.ts';
import type { Clock } from '../../time/clock.ts';
import { Turns } from '../../time/turns.ts';
import { AnswerEncoder } from './answer-encoder.ts';
import { decodedOr, HttpCall } from './call.ts';
import { connectErrorOf } from '../requests/connect-error.ts';
import { malformedMessage } from '../requests/message-decoding.ts';
import { requestFacts } from '../requests/request-facts.ts';
import { publishStreamRoute, subscribeRoute } from './streams.ts';

interface RouteParts {
  readonly handlers: Handlers;
  readonly clock: Clock;
  readonly calls: CallCounts;
  readonly stopping: AbortSignal;
  readonly reportBug: ReportBug;
}

/**
 * The handlers as routes of connect-node: Connect, gRPC-Web and (over HTTP/2) gRPC, in protobuf and
 * JSON.
 */
export function createRoutes({ handlers, clock, calls, stopping, reportBug }: RouteParts): ConnectRouter {
  const encoder = new AnswerEncoder(clock);
  const router = createConnectRouter({
    // Compression for every client that offers it costs nine tenths of the throughput.
    acceptCompression: [],
    readMaxBytes: limits.jsonPublishBytesMax,
  });
  const { publish, subscribe, publishStream } = BrokerService.method;
  const { serverReflectionInfo } = ServerReflection.method;
  for (const unary of handlers.unary) {
    router.rpc(unary.method, unaryRoute(unary, encoder, calls.of(unary.method), reportBug));
  }
  router.rpc(publish, publishRoute(handlers, encoder, calls.of(publish), reportBug));
  router.rpc(subscribe, subscribeRoute(handlers, encoder, calls.of(subscribe), reportBug));
  router.rpc(publishStream, publishStreamRoute(handlers, stopping, calls.of(publishStream), reportBug));
  router.rpc(serverReflectionInfo, reflectionRoute(new Turns(clock), reportBug));
  return router;
}

/** connect-node gets an empty message, and the listener sends the encoded answer in its place. */
function unaryRoute({ method, handle }: UnaryMethod, encoder: AnswerEncoder, calls: MethodCalls, reportBug: ReportBug) {
  const bytesMax = answerBytesMax(method);
  return async (message: unknown, context: ConnectContext): Promise<MessageShape<DescMethodUnary['output']>> => {
    const call = new HttpCall(context);
    const facts = context.values.get(requestFacts);
    const { answer, json } = facts;
    try {
      if (answer.refusal !== null) throw answer.refusal;
      const request = decodedOr(context, message);
      if (bytesMax !== null) await answer.reserve(bytesMax(request as object));
      const response = await handle(call, request);
      // The work of a Pull is undone if its answer goes nowhere.
      if (Buffer.isBuffer(response)) answer.demand(response.length);
      const encoded = await encoder.encode(method.output, response, json);
      if (Buffer.isBuffer(response)) answer.demand(encoded.length);
      facts.encoded.push(encoded);
      call.answered();
      calls.answered();
      return create(method.output);
    } catch (error) {
      call.failed();
      throw failed(calls, connectErrorOf(error, reportBug));
    } finally {
      answer.worked();
    }
  };
}

function publishRoute(handlers: Handlers, encoder: AnswerEncoder, calls: MethodCalls, reportBug: ReportBug) {
  return async (message: PublishRequest, context: ConnectContext) => {
    try {
      const facts = context.values.get(requestFacts);
      const { answer, decoded, json } = facts;
      if (answer.refusal !== null) throw answer.refusal;
      const bytes = decoded ?? Buffer.from(toBinary(PublishRequestSchema, message));
      const response = await handlers.publish(new HttpCall(context), bytes as Buffer);
      facts.encoded.push(await encoder.encode(PublishResponseSchema, response, json));
      calls.answered();
      return create(PublishResponseSchema);
    } catch (error) {
      throw failed(calls, connectErrorOf(error, reportBug));
    }
  };
}

function failed(calls: MethodCalls, error: ConnectError): ConnectError {
  calls.ended(error.code);
  return error;
}

/**
 * For `buf curl`, which asks for reflection over HTTP/2 for every protocol. The questions of all
 * streams are answered in turns, as over gRPC.
 */
function reflectionRoute(turns: Turns, reportBug: ReportBug) {
  const reflection = new Reflection([...services, ServerReflection]);
  return async function* (questions: AsyncIterable<ServerReflectionRequest>, context: ConnectContext) {
    const { messages, answer } = context.values.get(requestFacts);
    /** Questions of the present turn that may still be answered. */
    let left = 0;
    try {
      for await (const _ of questions) {
        if (left === 0) {
          await turns.taken();
          left = limits.reflectionQuestionsAtOnceMax;
        }
        left -= 1;
        if (answer.refusal !== null) throw answer.refusal;
        yield reflection.answer(messages.shift() as ServerReflectionRequest);
      }
    } catch (error) {
      throw connectErrorOf(malformedMessage(error), reportBug);
    }
  };
}
