"""Texts that would run, fetch or break out, if a page took any of them for more than a text."""

from __future__ import annotations

#: What runs says so here.
_CALL = "window.ran.push({n})"
_FAR = "https://example.com"
_SHAPES = (
    "<script>{call}</script>",
    "<ScRiPt >{call}</sCrIpT>",
    "<img src=x onerror={call}>",
    '<img src="x" onerror="{call}">',
    "<img\nsrc=x\nonerror\n=\n{call}>",
    "<svg onload={call}>",
    "<svg/onload={call}//",
    '<svg><script href="data:text/javascript,{call}"/></svg>',
    '<svg><animate onbegin={call} attributeName=x dur=1s></svg>',
    '<iframe src="javascript:parent.{call}"></iframe>',
    '<iframe srcdoc="<script>parent.{call}</script>"></iframe>',
    f'<iframe src="{_FAR}/frame"></iframe>',
    "<body onload={call}>",
    "<details open ontoggle={call}><summary>x</summary></details>",
    "<video><source onerror={call}></video>",
    "<audio src=x onerror={call}>",
    "<input autofocus onfocus={call}>",
    "<object data='javascript:parent.{call}'></object>",
    f"<embed src='{_FAR}/embed.swf'>",
    "<a href='javascript:{call}'>press</a>",
    "<form action='javascript:{call}'><button>press</button></form>",
    "<math><mtext><table><mglyph><style><img src=x onerror={call}></style></mglyph></table></mtext></math>",
    "<noscript><p title='</noscript><img src=x onerror={call}>'>",
    "<style>@import url(" + _FAR + "/style.css);</style>",
    f"<link rel=stylesheet href={_FAR}/style.css>",
    f"<div style='background:url({_FAR}/a.png)'>x</div>",
    f"<base href={_FAR}/>",
    f"<meta http-equiv=refresh content='0;url={_FAR}/'>",
    "<template shadowrootmode=open><img src=x onerror={call}></template>",
    "&lt;script&gt;{call}&lt;/script&gt;",
    "&#60;img src=x onerror={call}&#62;",
    "%3Cscript%3E{call}%3C/script%3E",
    "\\u003cscript\\u003e{call}\\u003c/script\\u003e",
    "\uff1cscript\uff1e{call}\uff1c/script\uff1e",
    "+ADw-script+AD4-{call}+ADw-/script+AD4-",
    "\x1b[31m<script>{call}</script>\x1b[0m",
    f"\x1b]8;;{_FAR}/\x07press\x1b]8;;\x07<img src=x onerror={{call}}>",
    "\u202e<script>{call}</script>\u2066\u200b",
    "[press](javascript:{call}) ![x](" + _FAR + "/a.png) <" + _FAR + ">",
    "`</code></pre><script>{call}</script>`",
    "{{{{ self.__init__.__globals__ }}}} {{% raw %}} ${{{call}}} <%= {call} %> #{{{call}}}",
    "$\\href{{javascript:{call}}}{{press}}$ \\(x\\) $$\\unicode{{<img src=x onerror={call}>}}$$",
)  # fmt: skip
#: What a text stands in on a page, and would have to end before.
_EXITS = (
    "",
    "\"'>",
    "</td></tr></tbody></table></div>",
    "--></style></title></textarea></pre></code>",
    "]]></svg></math>",
)


def made(n: int = 200) -> list[str]:
    """Return `n` texts, each another one; the number in it is its place."""
    pairs = [(shape, way_out) for way_out in _EXITS for shape in _SHAPES]
    return [
        f"p{i:03d} " + way_out + shape.format(call=_CALL.format(n=i))
        for i, (shape, way_out) in enumerate(pairs[:n])
    ]  # fmt: skip
