"""One run on the whole path, judged: both wires against what there was to understand."""

from __future__ import annotations

from hopproxy.message import Body, RequestHead, ResponseHead
from hopproxy.record import ExchangeRecord
from tests.fuzz import judges, meant, reference
from tests.fuzz.ends import Attempt, End
from tests.fuzz.h11_reader import Disagreement, Seen, strict_end
from tests.fuzz.reference import Meant

#: The responses read on behalf of one exchange, by its record's number on the client link.
Answers = dict[int, list[Meant[ResponseHead]]]


def judge(client: End, attempts: list[Attempt], records: list[ExchangeRecord]) -> None:
    """Raise Disagreement unless both wires say what was understood, and no more."""
    first = client.link_number
    mine = [record for record in records if record.link_number == first]
    wanted = reference.requests(client.said)
    answers: Answers = {}
    for end in {id(attempt.end): attempt.end for attempt in attempts}.values():
        on_it = [attempt for attempt in attempts if attempt.end is end]
        _judge_upstream(end, on_it, wanted, first, answers)
    judge_client(client, mine, answers)


def _judge_upstream(
    end: End,
    attempts: list[Attempt],
    wanted: list[Meant[RequestHead]],
    first: int,
    answers: Answers,
) -> None:
    """The requests on one upstream connection; notes in `answers` what there was to read there."""
    sent, read = end.came, 0
    for at, (_, record, said_before) in enumerate(attempts):
        if said_before != read:
            raise Disagreement(f"a link serves again, its origin had said {end.said[read:]!r} more")
        if record.link_number != first:
            break  # the prober's; what follows is not ours
        if record.link_request > len(wanted):
            raise Disagreement(f"request {record.link_request} goes out, but only {wanted!r} came")
        request = wanted[record.link_request - 1]
        sent = _judge_request(sent, request, last=at == len(attempts) - 1)
        found = reference.responses(end.said[read:], request.head.method, ended=end.left)
        answers[record.link_request] = found
        if found and found[-1].head.status == 101:
            judge_tunnel("origin", sent, request.rest, record)
        if not found or not found[-1].whole or found[-1].head.status == 101:
            break
        read = len(end.said) - len(found[-1].rest)


def judge_tunnel(what: str, came: bytes, said: bytes, record: ExchangeRecord) -> None:
    """Every byte of one side is one of the other, in order; all of them if nobody cut it.

    If anybody did, the record has a cause.
    """
    cut = bool(record.cause)
    if came != said and not (cut and said.startswith(came)):
        raise Disagreement(f"the {what} of a tunnel has read {came!r}, said was {said!r}")


def _judge_request(sent: bytes, request: Meant[RequestHead], *, last: bool) -> bytes:
    """The next request on a wire; what follows it there."""
    size = sent.find(b"\r\n\r\n") + 4
    if size < 4:
        if last:
            return b""
        raise Disagreement(f"a request meant, on the wire there is {sent!r}")
    rest = b""
    if request.head.upgrade is not None:
        end = max(size, strict_end(sent))  # what follows may be another protocol
        sent, rest = sent[:end], sent[end:]
    reading = judges.requests(sent)
    if not reading.messages:
        raise Disagreement(f"a request meant, a reader sees {reading!r}")
    seen = reading.messages[0]
    meant.check_request(request.head, seen)
    if not request.body.startswith(seen.body) or (seen.whole and seen.body != request.body):
        raise Disagreement(f"the body {request.body!r} arrived as {seen.body!r}")
    if seen.whole and not request.whole:
        raise Disagreement(f"a request whose end never came looks whole: {seen!r}")
    if seen.whole and request.trailers and len(seen.trailers) > len(request.trailers):
        raise Disagreement(f"the trailers {request.trailers!r} arrived as {seen.trailers!r}")
    if last and len(reading.messages) > 1:
        raise Disagreement(f"one request meant, a reader sees {reading!r}")
    if not last and not seen.whole:
        raise Disagreement(f"the link served on after an unfinished request: {reading!r}")
    return rest or sent[strict_end(sent) :]


# -- towards the client ----------------------------------------------------------------------


def judge_client(client: End, records: list[ExchangeRecord], answers: Answers) -> None:
    """The answers on the client's connection."""
    gone = [record for record in records if record.status == 499 and not record.first_byte]
    answered = [record for record in records if record.status and record not in gone]
    # A head that is refused is answered with a body, whatever its method.
    methods = [record.method if record.route else b"GET" for record in answered]
    left = [record.method for record in gone]  # an origin, too, may answer 499
    # Who has left may have been sent interim responses before.
    reading = judges.responses(client.came, methods + left[:1], ended=True)
    finals = [seen for seen in reading.messages if not seen.interim]
    switched = bool(finals) and finals[-1].start[0] == b"101"
    if reading.rest and not switched and len(finals) == len(answered):
        raise Disagreement(f"{reading.rest!r} behind the last answer")
    if not client.left and len(finals) != len(answered):
        raise Disagreement(f"{len(answered)} answers meant, a reader sees {finals!r}")
    if switched and len(finals) == len(answered):
        last = answered[-1]
        said = answers[last.link_request][-1].rest
        judge_tunnel("client", reading.rest, said, last)
    for seen, record in zip(finals, answered, strict=False):
        judge_answer(record, answers.get(record.link_request, []), seen)
    allowed = [b"%d" % one.head.status for found in answers.values() for one in found]
    for seen in reading.messages:
        if seen.interim and seen.start[0] not in [*allowed, b"100"]:
            raise Disagreement(f"an interim response from nowhere: {seen!r}")


def judge_answer(record: ExchangeRecord, found: list[Meant[ResponseHead]], seen: Seen) -> None:
    if int(seen.start[0]) != record.status:
        raise Disagreement(f"the log says {record.status}, the client was sent {seen!r}")
    if not record.first_byte:
        judge_own(record, seen)
        return
    final = found[-1]
    meant.check_response(final.head, seen)
    if record.status == 101:
        return
    if not final.body.startswith(seen.body):
        raise Disagreement(f"of the body {final.body!r} arrived {seen.body!r}")
    if not record.cause:
        if not seen.whole or seen.body != final.body or not final.whole:
            raise Disagreement(f"the response {final!r} arrived as {seen!r}")
        return
    delimited = any(n in (b"content-length", b"transfer-encoding") for n, _ in seen.fields)
    bodiless = final.head.body is Body.NONE
    if seen.whole and delimited and not bodiless and not final.whole:
        raise Disagreement(f"a response that was cut ({record.cause}) looks whole: {seen!r}")


def judge_own(record: ExchangeRecord, seen: Seen) -> None:
    """An answer that the gateway made itself: whole, as logged, with its cause."""
    if not seen.whole or (record.method != b"HEAD" and len(seen.body) != record.sent):
        raise Disagreement(f"logged {record.sent} bytes of our own, a reader sees {seen!r}")
    named = [value for name, value in seen.fields if name == b"proxy-status"]
    if record.cause and not (len(named) == 1 and record.cause.encode() in named[0]):
        raise Disagreement(f"the cause {record.cause} is not told: {seen!r}")
