"""Asking pods: what they answer, and one kind of error for all that is no answer."""

import httpx
import pytest

from dopd.cluster.podhttp import DirectPodHttp, PodHttpError

POD = {"metadata": {"name": "m-prefill-x"}, "status": {"podIP": "10.0.0.1"}}


def answering(status: int = 200, text: str = "") -> DirectPodHttp:
    def answer(request: httpx.Request) -> httpx.Response:
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, text=text or str(request.url))

    return DirectPodHttp(httpx.MockTransport(answer))


async def test_text_and_json():
    assert await answering().get_text(POD, 30000, "/metrics") == "http://10.0.0.1:30000/metrics"
    assert await answering(text='{"loads": []}').get_json(POD, 30000, "/v1/loads", {"include": "core"}) == {"loads": []}


@pytest.mark.parametrize(("status", "words"), [(0, "refused"), (503, "503")])
@pytest.mark.parametrize("ask", [DirectPodHttp.get_text, DirectPodHttp.get_json])
async def test_no_answer(status: int, words: str, ask):
    with pytest.raises(PodHttpError, match=words) as error:
        await ask(answering(status), POD, 30000, "/metrics")
    assert "m-prefill-x" in str(error.value)


async def test_what_is_no_json_and_a_pod_without_an_address():
    with pytest.raises(PodHttpError, match="no JSON"):
        await answering(text="up 1").get_json(POD, 30000, "/v1/loads")
    with pytest.raises(PodHttpError, match="no address"):
        await answering().get_text({**POD, "status": {}}, 30000, "/metrics")
