"""A WebSocket of the demo origin that sends back what it receives (RFC 6455)."""

import msgspec
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from hopproxy.dev.conversation import Conversation, Received

#: The only message that is not echoed: the answer is the request that opened the WebSocket.
ASK = "/received"


async def echo(conversation: Conversation, received: Received) -> None:
    """Open the requested WebSocket, then echo until either side closes it.

    A request without an upgrade to WebSocket gets 426.
    """
    socket = WSConnection(ConnectionType.SERVER)
    try:
        socket.initiate_upgrade_connection(conversation.fields, received.target)
    except RemoteProtocolError as error:
        text, upgrade = f"{error}\n", [("Upgrade", "websocket")]
        await conversation.answer(426, "text/plain; charset=utf-8", text.encode(), upgrade)
        return
    conversation.drop()
    next(socket.events())  # the request, which has been checked already
    await conversation.stream.send_all(socket.send(AcceptConnection()))
    data = conversation.wire.trailing_data[0] or await conversation.stream.receive_some()
    while data:
        try:
            socket.receive_data(bytes(data))
            out, ended = _answers(socket, received)
        except (RemoteProtocolError, LocalProtocolError):
            return
        if out:
            await conversation.stream.send_all(out)
        if ended:
            return
        data = await conversation.stream.receive_some()


def _answers(socket: WSConnection, received: Received) -> tuple[bytes, bool]:
    """(bytes to send for what was received, whether they are the last)."""
    out = b""
    for event in socket.events():
        match event:
            case TextMessage(data=text) if text == ASK:
                out += socket.send(TextMessage(data=msgspec.json.encode(received).decode()))
            case TextMessage() | BytesMessage():
                out += socket.send(event)
            case Ping() | CloseConnection():
                out += socket.send(event.response())
        if isinstance(event, CloseConnection):
            return out, True
    return out, False
