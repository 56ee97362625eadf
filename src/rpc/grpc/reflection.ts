import { toBinary } from '@bufbuild/protobuf';
import {
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import type { ReportBug } from '../edge/errors.ts';
import { decodeBinary } from '../translation/decode.ts';
import type { Reflection } from '../handlers/reflection.ts';
import { asBuffer, type RawBidiStream } from './definition.ts';
import { OpenCall } from './open-call.ts';
import type { OpenStreams } from './open-streams.ts';
import { endedWithinMessage } from './request-bodies.ts';
import { statusOf } from './status.ts';

/**
 * Reflection as a method of grpc-js. v1alpha has the same messages as v1 under another name, so
 * this serves both. A client that does not read its answers is not read either.
 */
export function reflectionMethod(reflection: Reflection, streams: OpenStreams, reportBug: ReportBug) {
  return (call: RawBidiStream): void => {
    const open = OpenCall.of(call);
    let unsentBytes = 0;
    let failed = false;
    const answer = (question: Buffer): void => {
      const { refusal } = open;
      if (refusal !== null) throw refusal;
      const message = reflection.answer(decodeBinary(ServerReflectionRequestSchema, question));
      const bytes = asBuffer(toBinary(ServerReflectionResponseSchema, message));
      const countedBytes = bytes.length + limits.unsentEventBytes;
      open.answer(countedBytes);
      unsentBytes += countedBytes;
      call.write(bytes, () => {
        open.read(countedBytes);
        unsentBytes -= countedBytes;
        if (unsentBytes < limits.reflectionUnsentBytesMax) call.resume();
      });
      if (unsentBytes >= limits.reflectionUnsentBytesMax) call.pause();
    };
    streams.opened(call, () => {
      call.end();
    });
    const fail = (error: unknown): void => {
      failed = true;
      call.emit('error', statusOf(error, reportBug));
    };
    call.on('end', () => {
      if (failed) return;
      if (endedWithinMessage(call)) fail(malformedRequest('the request is cut short'));
      else call.end();
    });
    call.on('data', (question: Buffer) => {
      if (failed || call.writableEnded) return;
      try {
        answer(question);
      } catch (error) {
        fail(error);
      }
    });
  };
}
