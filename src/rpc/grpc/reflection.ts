import { toBinary } from '@bufbuild/protobuf';
import {
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import type { Turns } from '../../time/turns.ts';
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
 * this serves both. A client that does not read its answers is not read either. The questions of
 * all streams are answered in turns, because one read of a socket may bring hundreds of them.
 */
export function reflectionMethod(reflection: Reflection, streams: OpenStreams, turns: Turns, reportBug: ReportBug) {
  return (call: RawBidiStream): void => {
    const open = OpenCall.of(call);
    let unsentBytes = 0;
    let failed = false;
    let waits = false;
    /** Questions of the present turn that may still be answered. */
    let left = 0;
    /** What follows a refused question is dropped, however much is unread. */
    const readOn = (): void => {
      if (failed || (!waits && unsentBytes < limits.reflectionUnsentBytesMax)) call.resume();
      else call.pause();
    };
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
        readOn();
      });
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
    const take = (question: Buffer): void => {
      if (failed || call.writableEnded || call.destroyed) return;
      left -= 1;
      try {
        answer(question);
      } catch (error) {
        fail(error);
      }
      readOn();
    };
    call.on('data', (question: Buffer) => {
      if (failed || left > 0) {
        take(question);
        return;
      }
      call.pause();
      waits = true;
      turns.take(() => {
        waits = false;
        left = limits.reflectionQuestionsAtOnceMax;
        take(question);
      });
    });
  };
}
