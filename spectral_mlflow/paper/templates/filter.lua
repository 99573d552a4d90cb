-- From the document as people read it in Markdown to what a typesetter needs: the first heading is
-- the title, the line below it the subtitle, "Abstract" the abstract; the caption paragraphs
-- "Figure 1. ..." and "Table 1. ..." belong to their figure or table; \tag{n} numbers an equation.

local stringify = pandoc.utils.stringify

local function anchor_of(block)
  if block.t ~= "Para" or #block.content == 0 then return nil end
  local first = block.content[1]
  if first.t ~= "RawInline" or first.format ~= "html" then return nil end
  return first.text:match('^<a id="([%w-]+)">$')
end

local function caption_of(block)
  local anchor = anchor_of(block)
  local last = block.t == "Para" and block.content[#block.content]
  if not anchor or not last or last.t ~= "Emph" then return nil end
  local words = last.content:clone()
  for _ = 1, 4 do words:remove(1) end -- "Figure", space, "1.", space: the typesetter counts by itself.
  return anchor, words
end

local function number_of(block)
  if block.t ~= "Para" or #block.content ~= 1 then return nil end
  local math = block.content[1]
  if math.t ~= "Math" or math.mathtype ~= "DisplayMath" then return nil end
  return math.text:match("\\tag{(%d+)}")
end

local function numbered(block, number)
  local tex = block.content[1].text:gsub("\\tag{%d+}", "")
  return pandoc.Para {
    pandoc.RawInline("typst", "#fit["),
    pandoc.Math("DisplayMath", tex),
    pandoc.RawInline("typst", " <eq-" .. number .. ">]"),
  }
end

local function figure(image, anchor, words)
  local target = image.content[1]
  return pandoc.Figure(
    pandoc.Plain { pandoc.Image({}, target.src) }, { long = { pandoc.Plain(words) } }, pandoc.Attr(anchor))
end

local function is_image(block)
  return block.t == "Para" and #block.content == 1 and block.content[1].t == "Image"
end

local function with_caption(block, anchor, words)
  block.caption = { long = { pandoc.Plain(words) } }
  block.attr.identifier = anchor
  if #block.colspecs > 8 then block.attr.attributes["typst:text:size"] = "6.6pt" end
  return block
end

local function joined(blocks)
  local out = pandoc.List()
  local place = 1
  while place <= #blocks do
    local block, after = blocks[place], blocks[place + 1]
    local anchor, words = nil, nil
    if after and is_image(block) then anchor, words = caption_of(after) end
    if anchor then
      out:insert(figure(block, anchor, words))
      place = place + 2
    elseif caption_of(block) and after and after.t == "Table" then
      anchor, words = caption_of(block)
      out:insert(with_caption(after, anchor, words))
      place = place + 2
    elseif number_of(block) then
      out:insert(numbered(block, number_of(block)))
      place = place + 1
    else
      if not anchor_of(block) then out:insert(block) end
      place = place + 1
    end
  end
  return out
end

function Pandoc(doc)
  local blocks = joined(doc.blocks)
  local body, abstract = pandoc.List(), pandoc.List()
  local place = 1
  if blocks[1] and blocks[1].t == "Header" and blocks[1].level == 1 then
    doc.meta.title = pandoc.MetaInlines(blocks[1].content)
    doc.meta.plaintitle = pandoc.MetaString(stringify(blocks[1].content))
    place = 2
    if blocks[2] and blocks[2].t == "Para" then
      doc.meta.subtitle = pandoc.MetaInlines(blocks[2].content)
      place = 3
    end
  end
  local inside = false
  for index = place, #blocks do
    local block = blocks[index]
    if block.t == "Header" then
      inside = stringify(block.content) == "Abstract"
      block.level = math.max(1, block.level - 1)
      if not inside then body:insert(block) end
    elseif inside then
      abstract:insert(block)
    else
      body:insert(block)
    end
  end
  if #abstract > 0 then doc.meta.abstract = pandoc.MetaBlocks(abstract) end
  doc.blocks = body
  return doc
end
